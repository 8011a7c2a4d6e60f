"""Tests mirror the source, and no module of the source imports itself by way of others."""

from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent
WITHOUT_TEST = {"__init__.py", "__main__.py"}


def test_each_source_file_has_its_test_file():
    sources = [p.relative_to(ROOT / "src/genie") for p in (ROOT / "src/genie").rglob("*.py")]
    wanted = {p.with_name(f"test_{p.name}") for p in sources if p.name not in WITHOUT_TEST}
    missing = sorted(str(p) for p in wanted if not (ROOT / "tests" / p).exists())
    assert not missing, f"source files without tests: {missing}"


def test_no_module_imports_in_a_circle():
    """Imports inside functions and for type checkers count, and those of a package's own file."""
    graph = grimp.build_graph("genie", cache_dir=None)
    imports = {
        module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules
    }
    for module in imports:
        package = module.rpartition(".")[0]
        imports[module] |= {package} - {"", "genie"}
    reached = {module: _reached(module, imports) for module in imports}
    circles = {module: to for module, to in reached.items() if module in to}
    assert not circles, {m: sorted(to & circles.keys()) for m, to in circles.items()}


def _reached(module: str, imports: dict[str, set[str]]) -> set[str]:
    reached, waiting = set(), list(imports[module])
    while waiting:
        if (name := waiting.pop()) not in reached:
            reached.add(name)
            waiting.extend(imports[name])
    return reached
