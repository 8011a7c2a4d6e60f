import io

from rich.console import Console

from genie.training import reporting
from genie.training.reporting import LiveProgress, describe, duration, warn_loudly


def test_durations():
    assert [duration(s) for s in (3.7, 59.9, 247, 11100)] == ["0:03", "0:59", "4:07", "3h05"]


def test_plain_lines_come_now_and_then(console, monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(reporting.time, "monotonic", lambda: float(next(clock)))
    with LiveProgress("tokenizer", console, start=0.5) as progress:
        for share in (0.5, 0.6, 0.7, 0.8, 0.9):
            progress.update(share, "loss 1")
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("tokenizer: 60%, 1:20 left")


def test_a_terminal_gets_a_bar():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with LiveProgress("dynamics", console) as progress:
        progress.update(0.25, describe({"loss": 0.12345}))
    assert "dynamics" in console.file.getvalue()
    assert "loss 0.1235" in console.file.getvalue()


def test_warnings_stand_out(console):
    warn_loudly(console, "collapsed")
    assert "warning" in console.file.getvalue()
