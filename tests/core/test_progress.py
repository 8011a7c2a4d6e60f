import io

import pytest
from rich.console import Console

from genie.core import progress as module
from genie.core.progress import Progress, Stopwatch, duration, progress_bars, say, ticking


class Clock:
    """Seconds that pass only when told."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def log():
    """A log file, which rich believes to be 80 columns wide."""
    return Console(file=io.StringIO(), width=80, force_terminal=False)


def lines(log):
    return log.file.getvalue().splitlines()


def work(bar, clock, steps, seconds, note=""):
    """Does work in equal steps that take `seconds` together."""
    for step in range(1, steps + 1):
        clock.now += seconds / steps
        bar.update(step / steps, note)


def test_durations():
    assert [duration(s) for s in (3.7, 59.9, 247, 11100)] == ["0:03", "0:59", "4:07", "3h05"]


def test_a_long_run_writes_a_line_for_each_twentieth_of_it(clock, log):
    with Progress("tokenizer", console=log) as bar:
        work(bar, clock, steps=36_000, seconds=36_000)
    shares = [int(line.split("%")[0].removeprefix("tokenizer: ")) for line in lines(log)]
    assert shares == [0, *range(5, 100, 5), 100]


def test_a_short_run_writes_a_line_a_minute(clock, log):
    with Progress("tokenizer", console=log) as bar:
        work(bar, clock, steps=240, seconds=240)
    assert [line.split(",")[0] for line in lines(log)] == [
        *(f"tokenizer: {share}%" for share in (25, 50, 75, 100)),
        "tokenizer: 100%",
    ]


def test_lines_of_a_log_file_never_wrap(clock, log):
    note = "  ".join(f"scalar_{i} {i / 7:.4g}" for i in range(20))
    with Progress("dynamics", console=log) as bar:
        work(bar, clock, steps=2, seconds=200, note=note)
    say(log, f"a [bracket] {note}")
    assert len(lines(log)) == 4
    assert all(line.endswith(note) for line in lines(log))
    assert "[bracket]" in lines(log)[-1]


def test_the_estimate_leaves_out_earlier_runs_and_the_time_to_the_first_step(clock, log):
    with Progress("tokenizer", console=log) as bar:
        clock.now += 1000
        bar.update(0.5)
        clock.now += 60
        bar.update(0.6)
    assert lines(log)[0].startswith("tokenizer: 50%, ?:?? left")
    assert lines(log)[1].startswith("tokenizer: 60%, 4:00 left")


def test_the_estimate_follows_the_clock_of_the_work(clock, log):
    with Progress("tokenizer", console=log) as bar:
        bar.update(0.1, seconds=10)
        clock.now += 600  # compiling
        bar.update(0.2, seconds=20)
    assert lines(log)[0].startswith("tokenizer: 20%, 1:20 left")


def test_what_is_counted_is_named(clock, log):
    with Progress("preparing", 1200, unit="videos", console=log) as bar:
        clock.now += 5
        bar.update(1200, "9,000 frames")
    assert lines(log) == ["preparing: 1,200/1,200 videos, took 0:05  9,000 frames"]


def test_work_that_fails_says_how_far_it_came(clock, log):
    def fail():
        with Progress("tokenizer", console=log) as bar:
            bar.update(0.25)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert lines(log) == ["tokenizer: 25%, took 0:00"]


def test_nothing_is_written_of_nothing_nor_where_it_is_not_wanted(clock, log):
    with Progress("cached", console=log):
        pass
    with Progress("hidden", console=log, show=False) as bar:
        work(bar, clock, steps=2, seconds=1000)
    with Progress("brief", console=log, transient=True) as bar:
        work(bar, clock, steps=2, seconds=2)
    assert lines(log) == []


def test_a_terminal_gets_a_bar():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Progress("dynamics", console=console) as bar:
        bar.update(0.25, "loss 0.1235")
    assert "dynamics" in console.file.getvalue()
    assert "25%, took 0:00  loss 0.1235" in console.file.getvalue()


def test_bars_advance_and_end(capsys):
    with progress_bars(True)("Counting", 2) as tick:
        tick()
        tick()
    assert capsys.readouterr().err == "Counting: 100%, took 0:00\n"


def test_a_bar_is_full_when_its_part_is_over(capsys):
    with progress_bars(True)("Counting", 7) as tick:
        tick()
    assert capsys.readouterr().err == "Counting: 100%, took 0:00\n"


def test_no_bars_no_output(capsys):
    with progress_bars(False)("Counting", 1) as tick:
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
