"""The tables of the documentation are what the JSON files say."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SPEC = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
assert SPEC is not None
assert SPEC.loader is not None
tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tables)


@pytest.mark.parametrize("page", tables.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_are_up_to_date(page):
    text = page.read_text("utf-8")
    assert tables.rendered(text) == text, "run: make tables"


@pytest.mark.parametrize("name", tables.TABLES)
def test_every_table_is_shown_somewhere(name):
    assert any(f"<!-- table: {name}" in page.read_text("utf-8") for page in tables.pages())


def test_what_stands_between_the_marks_is_replaced():
    page = "before\n<!-- table: training -->\nold\n<!-- end -->\nafter\n"
    new = tables.rendered(page)
    assert "old" not in new
    assert "| tokenizer | fp32 |" in new
    assert new.startswith("before\n")
    assert new.endswith("\nafter\n")
    assert tables.rendered(new) == new


def test_a_missed_target_is_marked():
    assert tables._target(0.9, 1) == "1: **missed**"
    assert tables._target(1.0, 1) == "1: reached"


def test_every_experiment_has_its_parts():
    experiments = sorted((ROOT / "docs" / "experiments").glob("2*.md"))
    assert len(experiments) > 50
    for path in experiments:
        text = path.read_text("utf-8")
        assert text.splitlines()[0].endswith("?"), path.name
        for part in ("**Set-up.** ", "\n## Result\n", "\n## Decision\n", "ommit"):
            assert part in text, f"{path.name}: {part.strip()}"


def test_bars_of_a_gpu_say_what_was_missed(tmp_path, monkeypatch):
    bars = {
        "50M": {"least": 150, "unit": "frames/s", "best": 200.5, "how": "graph", "reached": True},
        "1B": {"least": 45, "unit": "frames/s", "best": 9, "how": "plain", "reached": False},
        "3B": {"least": 20, "unit": "frames/s", "best": None, "why": ["no time was left"]},
    }
    rows = [
        {"bar": "3B", "how": "compiled", "not_measured": "no time"},
        {"bar": "3B", "how": "graph"},
    ]
    file = tmp_path / "gpu-bars-h100.json"
    file.write_text(
        json.dumps(
            {"about": {"gpu": "H100", "torch": "2.13"}, "minutes": 4.0, "bars": bars, "rows": rows}
        )
    )
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    lines = tables.gpu().splitlines()
    assert lines[0] == "H100, torch 2.13, 4 minutes in all:"
    assert lines[-7:] == [
        "| 50M | frames/s | 150 | 200.5 | graph |",
        "| 1B | frames/s | 45 | 9 (**missed**) | plain |",
        "| 3B | frames/s | 20 | not measured |  |",
        "",
        "Not measured:",
        "",
        "- compiled, no time: 3B",
    ]
