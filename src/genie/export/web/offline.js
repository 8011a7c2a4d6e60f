// The service worker of an exported site: what was fetched once is there without a network.
// VERSION and FILES are put in when the site is written: a hash of all files, and those of the page.

const OWN = `genie ${registration.scope} `; // other sites of this host have caches of their own
const CACHE = `${OWN}VERSION`;
const PAGE = FILES;

addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(
    PAGE.map((file) => new Request(file, { cache: "reload" })),
  )));
});

addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    const others = (await caches.keys()).filter((name) => name.startsWith(OWN) && name !== CACHE);
    await Promise.all(others.map((name) => caches.delete(name)));
    await clients.claim();
  })());
});

addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && new URL(url).origin === location.origin) event.respondWith(answer(event));
});

async function answer(event) {
  const { request } = event;
  const cache = await caches.open(CACHE).catch(() => null);
  const found = await cache?.match(request, { ignoreSearch: request.mode === "navigate" });
  if (found) return found;
  const response = await fetch(request, { cache: "no-cache" }); // not what an older site left behind
  if (cache && response.status === 200) {
    event.waitUntil(cache.put(request, response.clone()).catch(() => {})); // the storage may be full
  }
  return response;
}
