"""The GPU's bars, rehearsed on a CPU with tiny worlds."""

import json
import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

SHORT = """
import dataclasses, os, sys, time
import gpu_bars

real = gpu_bars.measure

def measure(row, options):
    if row.bar == "train tokenizer":
        raise RuntimeError("out of memory, said the test")
    if row.bar == "1B":
        os.kill(os.getpid(), 11)
    if row.bar == "3B":
        time.sleep(100)
    return real(row, options)

gpu_bars.measure = measure
SKIPPED = ("train dynamics", "train actions", "50M") if "1.0" in sys.argv else ()
limits = {"1B": 5.0, "3B": 0.5}
parts = {
    name: tuple(
        dataclasses.replace(part, limit=limits.get(part.rows[0].bar, part.limit))
        for part in getattr(gpu_bars, name)
        if part.rows[0].bar in BARS and not (part in gpu_bars.THEN and part.rows[0].bar in SKIPPED)
    )
    for name in ("FIRST", "THEN")
}
gpu_bars.FIRST, gpu_bars.THEN = parts["FIRST"], parts["THEN"]
gpu_bars.main(sys.argv[1:])
"""


def rehearse(tmp_path, bars, minutes=1.0):
    """The report of a rehearsal in which some parts break, and what it printed."""
    path = tmp_path / "bars.json"
    options = ["--device", "cpu", "--rehearse", "--minutes", str(minutes), "--json", str(path)]
    done = subprocess.run(
        [sys.executable, "-c", f"BARS = {bars!r}\n{SHORT}", *options],
        cwd=BENCHMARKS,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text()), done.stdout


def reasons(report, bar):
    return [row.get("not_measured") for row in report["rows"] if row["bar"] == bar]


def test_what_breaks_is_recorded_and_the_rest_is_measured(tmp_path):
    bars = ["machine", "50M", "1B", "3B", "train tokenizer"]
    report, printed = rehearse(tmp_path, bars)
    assert report["rows"][0]["matrix_gflops"] > 0
    assert "torch" in report["about"]
    assert reasons(report, "1B")[0] == "failed: its process ended with SIGSEGV"
    assert reasons(report, "3B")[0] == "failed: took more than 0.5 s"
    assert "out of memory, said the test" in reasons(report, "train tokenizer")[0]
    for bar in ("50M", "64 x 50M", "train dynamics"):
        best = report["bars"][bar]
        assert best["best"] > 0
        assert best["reached"] == (best["best"] >= best["least"])
    for bar, result in report["bars"].items():
        measured = result["best"] is not None
        assert measured or bar == "300M" or all(result["why"]), bar  # 300M: not in this list
    graphs = [row for row in report["rows"] if row["how"] == "graph" and "value" in row]
    assert [row["pixels_as_without_graph"] for row in graphs] == [1.0, 1.0]
    assert all(0 < row["floor_ms"] < row["ms"] for row in graphs)
    assert len(printed.splitlines()) == len(report["rows"])


def test_without_time_every_bar_says_so(tmp_path):
    every = ["machine", "50M", "300M", "1B", "3B", "train tokenizer", "train actions"]
    report, _ = rehearse(tmp_path, [*every, "train dynamics"], minutes=0.0)
    assert len(report["bars"]) == 8
    for result in report["bars"].values():
        assert result["best"] is None
        assert set(result["why"]) == {"not run: budget"}
