// Shows what openapi.json says, and tries it: each operation is a form with examples filled in.

const base = new URL(".", document.baseURI);

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** The values a schema allows, whether it may be null or not. */
function choices(schema) {
  return schema.enum ?? schema.anyOf?.find((part) => part.enum)?.enum;
}

function field(parameter) {
  const { schema } = parameter;
  const value = parameter.example ?? schema.examples?.[0] ?? schema.default ?? "";
  const options = choices(schema);
  const input = options
    ? element("select", {}, ...options.map((option) => new Option(option, option, false, option === value)))
    : element("input", { value, required: parameter.required });
  input.name = parameter.name;
  const about = parameter.description ?? schema.description ?? "";
  return element("label", {}, element("code", { textContent: parameter.name }), input, element("small", { textContent: about }));
}

/** A field for the body of a request: a text for JSON, else a file. */
function bodyField(body) {
  const json = body.content["application/json"];
  const input = json
    ? element("textarea", { value: JSON.stringify(json.example), name: "" })
    : element("input", { type: "file", accept: Object.keys(body.content).join(), name: "" });
  const about = element("small", { textContent: body.description ?? "" });
  return element("label", {}, element("code", { textContent: "body" }), input, about);
}

/** The address of an operation with the values of its form. */
function address(path, parameters, form) {
  let filled = path;
  const query = new URLSearchParams();
  for (const { name, in: place } of parameters) {
    const value = form.elements[name].value;
    if (place === "path") filled = filled.replace(`{${name}}`, encodeURIComponent(value));
    else if (value !== "") query.set(name, value);
  }
  const url = new URL(filled.slice(1), base);
  url.search = query;
  return url;
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curl(method, url, file, text) {
  const words = ["curl"];
  if (method !== "GET" && !file) words.push("-X", method);
  if (file) words.push("--data-binary", quoted(`@${file.name}`));
  if (text) words.push("-H", "'Content-Type: application/json'", "-d", quoted(text));
  return [...words, `'${url.href.replaceAll("'", "%27")}'`].join(" ");
}

async function shown(response) {
  const status = element("p", { textContent: `${response.status} ${response.statusText}` });
  const kind = response.headers.get("content-type") ?? "";
  if (/json|text/.test(kind)) return [status, element("pre", { textContent: await response.text() })];
  const src = URL.createObjectURL(await response.blob());
  if (kind.startsWith("image/")) return [status, element("img", { src, alt: "the answer" })];
  if (kind.startsWith("video/")) return [status, element("video", { src, controls: true, loop: true, autoplay: true, muted: true })];
  return [status, element("a", { href: src, download: "answer.zip", textContent: "the answer, as a file" })];
}

function section(path, method, operation) {
  const parameters = operation.parameters ?? [];
  const body = operation.requestBody;
  const answer = element("div", { ariaLive: "polite" });
  const example = element("pre");
  const form = element("form", {}, ...parameters.map(field), ...(body ? [bodyField(body)] : []), example, element("button", { textContent: "Try it" }), answer);
  const file = () => form.querySelector("input[type=file]")?.files[0];
  const text = () => form.querySelector("textarea")?.value;
  const refresh = () => { example.textContent = curl(method, address(path, parameters, form), file(), text()); };
  form.addEventListener("input", refresh);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    answer.replaceChildren("…");
    try {
      const headers = text() ? { "Content-Type": "application/json" } : {};
      const response = await fetch(address(path, parameters, form), { method, headers, body: file() ?? text() });
      answer.replaceChildren(...(await shown(response)));
    } catch (error) {
      answer.replaceChildren(`No answer: ${error.message}`);
    }
  });
  refresh();
  const heading = element("h2", {}, element("span", { textContent: method }), ` ${path}`);
  return element("section", {}, heading, element("p", { textContent: operation.description ?? operation.summary }), form);
}

const api = await (await fetch(new URL("openapi.json", base))).json();
document.querySelector("#about").textContent = api.info.description;
for (const [path, operations] of Object.entries(api.paths)) {
  for (const [method, operation] of Object.entries(operations)) {
    document.querySelector("#operations").append(section(path, method.toUpperCase(), operation));
  }
}
