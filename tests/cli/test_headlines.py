import io

from rich.console import Console

from genie.cli.headlines import print_headlines


def line(value: float) -> dict:
    texts = {"verdict": "good", "name": "Sharpness", "explanation": "As sharp as video."}
    return texts | {"value": value, "unit": "dB", "baseline": 20.0, "baseline_name": "copying"}


def printed(*arguments: dict) -> str:
    report, *before = arguments
    console = Console(file=io.StringIO(), width=120)
    print_headlines(report, console, *before)
    return console.file.getvalue()


def test_figures_stand_beside_their_baselines_and_notes_follow():
    shown = printed({"headlines": [line(31.5)], "notes": ["few clips [64]"]})
    assert "Sharpness" in shown
    assert "31.5" in shown
    assert "copying" in shown
    assert "before" not in shown
    assert "note: few clips [64]" in shown


def test_an_earlier_world_stands_beside_it_where_it_has_the_figure():
    report = {"headlines": [line(31.5), line(7.0) | {"name": "New"}], "notes": []}
    shown = printed(report, {"headlines": [line(25.25)]})
    assert "before" in shown
    assert "25.2" in shown
    assert "–" in shown, "the older report lacks the second figure"
