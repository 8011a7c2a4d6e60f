"""Prose is plain: no sentence over 30 words, and none of the words that the glossary rules out."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_WORDS = 30
GLOSSARY = ROOT / "docs" / "glossary.md"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "src").rglob("README.md")),
]
TEMPLATES = sorted((ROOT / "src").rglob("*.html"))
LEFT_IN_DOCSTRINGS: dict[str, int] = {}
"""Faults of the docstrings of public names that are left in a package; they may only become fewer.
Packages that are not named have none."""


def ruled_out() -> list[str]:
    """The words and phrases in the first column of the glossary's table of words not used."""
    table = GLOSSARY.read_text("utf-8").split("\n## Words that are not used\n")[1]
    table = table.split("\n## ")[0]
    cells = re.findall(r"^\| ([^|]+?) \|", table, re.MULTILINE)[1:]
    return [word.strip() for cell in cells for word in cell.split(",")]


RULED_OUT = re.compile(rf"\b({'|'.join(map(re.escape, ruled_out()))})\b", re.IGNORECASE)


def blocks(markdown: str) -> Iterator[str]:
    """Paragraphs, items of lists, headings and cells of tables, without code and marks."""
    text = re.sub(r"```.*?```|<!--.*?-->|^---$.*?^---$", "\n\n", markdown, flags=re.S | re.M)
    text = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", text)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*>#|]|\d+\.) ?)", text):
        cells = block.strip().strip("|").split("|") if block.strip().startswith("|") else [block]
        yield from (re.sub(r"^\s*(?:[-*>#]+|\d+\.)\s", "", cell) for cell in cells)


def sentences(block: str) -> list[str]:
    """The sentences of a paragraph; code counts as one word."""
    text = re.sub(r"``[^`]+``|`[^`]+`", "CODE", block)
    text = re.sub(r"\b(e\.g|i\.e|et al|s\.e|cf|vs|approx)\.", r"\1", text)
    text = " ".join(text.replace("*", "").split())
    return [part for part in re.split(r"(?<=[.!?])[\")]*\s+", text) if part]


def faults(blocks_of_text: Iterator[str] | list[str]) -> list[str]:
    found = []
    for block in blocks_of_text:
        for sentence in sentences(block):
            words = [word for word in sentence.split() if re.search(r"\w", word)]
            if len(words) > MOST_WORDS:
                found.append(f"{len(words)} words: {sentence}")
            found += [f"{match[1]!r}: {sentence}" for match in RULED_OUT.finditer(sentence)]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_are_plain(page):
    text = page.read_text("utf-8")
    if page == GLOSSARY:
        text = text.split("\n## Words that are not used\n")[0]
    assert not (found := faults(blocks(text))), "\n".join(found)


def html_blocks(html: str) -> Iterator[str]:
    """Paragraphs, headings and cells of a page, without tags, scripts and Jinja."""
    text = re.sub(r"<(script|style|pre)\b.*?</\1>|<!--.*?-->|{#.*?#}|{%.*?%}", "", html, flags=re.S)
    text = re.sub(r"{{.*?}}|<code>.*?</code>", "`x`", text, flags=re.S)
    text = re.sub(r"</?(a|b|em|i|kbd|span|strong|var)\b[^>]*>", "", text)
    yield from (block for block in re.split(r"<[^>]*>", text) if block.strip())


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda file: str(file.relative_to(ROOT)))
def test_templates_are_plain(template):
    text = list(html_blocks(template.read_text("utf-8")))
    found = [f"an identifier: {block}" for block in text for _ in identifiers(block)]
    assert not (found := found + faults(text)), "\n".join(found)


def identifiers(block: str) -> list[str]:
    """The words of a text, outside code, that have an underscore."""
    return [word for part in sentences(block) for word in re.findall(r"\w+_\w+", part)]


def docstrings(source: str) -> Iterator[str]:
    """Docstrings of public names, one paragraph, argument or attribute at a time."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = getattr(node, "name", "")
            if not name.startswith("_") and (text := ast.get_docstring(node)):
                yield from re.split(r"\n\s*\n|\n(?=\s*(?:[-*] |\w[\w, ]*: ))", text)


PACKAGES = sorted(file.parent.name for file in (ROOT / "src" / "genie").glob("*/__init__.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_get_no_worse(package):
    found = [
        f"{file.relative_to(ROOT)}: {fault}"
        for file in sorted((ROOT / "src" / "genie" / package).rglob("*.py"))
        for fault in faults(docstrings(file.read_text("utf-8")))
    ]
    assert len(found) <= LEFT_IN_DOCSTRINGS.get(package, 0), "\n".join(found)


def test_an_action_is_a_button_on_the_page_only():
    """The page, what serves or exports it, and the names of old reports have the word."""
    package = ROOT / "src" / "genie"
    of_the_page = {*(package / "serving").rglob("*.*"), package / "cli" / "commands" / "serve.py"}
    of_the_page.add(package / "evaluation" / "report" / "versions.py")
    of_the_page.add(package / "export" / "site.py")
    files = {*package.rglob("*.py"), *package.rglob("*.html")} - of_the_page
    word = re.compile(r"\bbuttons?\b", re.IGNORECASE)
    assert not [file for file in sorted(files) if word.search(file.read_text("utf-8"))]


def test_only_packages_have_faults_left():
    assert set(LEFT_IN_DOCSTRINGS) <= set(PACKAGES)
    top = [path.read_text("utf-8") for path in (ROOT / "src" / "genie").glob("*.py")]
    assert not [fault for text in top for fault in faults(docstrings(text))]


def test_long_sentences_and_words_ruled_out_are_found():
    assert faults(["word " * 30 + "end."])
    assert not faults(["word " * 29 + "end. " + "word " * 29 + "end."])
    assert faults(["A world that shows obedience."])
    assert not faults(["A world that has `obedience`."])


def test_markdown_is_taken_apart():
    page = "# A\n\n| a | `b` |\n\n```sh\nx y\n```\n- c\n  d\n- [e](f)\n<!-- g -->\n"
    text = [part.strip() for block in blocks(page) for part in sentences(block)]
    assert text == ["A", "a", "CODE", "c d", "e"]


def test_templates_are_taken_apart():
    html = "{% if a %}<p class='b'>The <b>held_actions</b> of {{ c_d }}\n.</p>{# e #}<td>f</td>"
    assert [" ".join(block.split()) for block in html_blocks(html)] == [
        "The held_actions of `x` .",
        "f",
    ]
    assert identifiers("The held_actions of `c_d`.") == ["held_actions"]


def test_docstrings_are_taken_apart():
    source = (
        'def f():\n    """A.\n\n    Args:\n        a: b\n            c.\n        d: e.\n    """\n'
    )
    assert [" ".join(part.split()) for part in docstrings(source)] == [
        "A.",
        "Args:",
        "a: b c.",
        "d: e.",
    ]
