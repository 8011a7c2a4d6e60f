"""The tests mirror the source: one test file for each source file, at the same place."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
WITHOUT_TEST = {"__init__.py", "__main__.py"}


def test_each_source_file_has_its_test_file():
    sources = [p.relative_to(ROOT / "src/genie") for p in (ROOT / "src/genie").rglob("*.py")]
    wanted = {p.with_name(f"test_{p.name}") for p in sources if p.name not in WITHOUT_TEST}
    missing = sorted(str(p) for p in wanted if not (ROOT / "tests" / p).exists())
    assert not missing, f"source files without tests: {missing}"
