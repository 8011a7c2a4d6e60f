from rich.progress import Progress

from genie.evaluation.progress import Stopwatch, progress_bars, ticking


def test_bars_advance_and_end(capsys):
    with progress_bars(True) as bars, bars("Counting", 2) as tick:
        tick()
        tick()
    assert "Counting" in capsys.readouterr().err


def test_a_bar_is_full_when_its_part_is_over(monkeypatch):
    shown = []
    monkeypatch.setattr(Progress, "update", lambda self, task, **now: shown.append(now))
    with progress_bars(False) as bars, bars("Counting", 7) as tick:
        tick()
    assert shown == [{"completed": 7}]


def test_no_bars_no_output(capsys):
    with progress_bars(False) as bars, bars("Counting", 1) as tick:
        tick()
    assert capsys.readouterr().err == ""


def test_a_tick_comes_after_what_was_used():
    seen = []
    for item in ticking("ab", lambda: seen.append("tick")):
        seen.append(item)
    assert seen == ["a", "tick", "b", "tick"]


def test_the_stopwatch_adds_up():
    watch = Stopwatch()
    with watch.part("a"):
        pass
    assert watch.table() == {"a": 0.0, "total": 0.0}
