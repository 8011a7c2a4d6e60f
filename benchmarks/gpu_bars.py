r"""Which bars of play and training does a GPU reach? One command, some minutes, a bare machine.

Every size without a compiler first, also as CUDA graphs of whole steps; then all compilers run at
the same time, on all cores and with nothing timed, and what they left is measured. Each part runs
in a process of its own: one that crashes or hangs costs only its own rows. The file is written
anew after each row, and rows for which no time is left say so.

python benchmarks/gpu_bars.py --json $OUT/bars.json                # on a GPU, 4 minutes
python benchmarks/gpu_bars.py --device cpu --rehearse --json /tmp/bars.json     # seconds
"""

from __future__ import annotations

import time

BEGAN = time.monotonic()  # before torch, whose import counts as well

import argparse  # noqa: E402
import json  # noqa: E402
import multiprocessing  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from dataclasses import asdict, dataclass, fields, is_dataclass, replace  # noqa: E402
from functools import cache  # noqa: E402
from multiprocessing.connection import Connection  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import play  # noqa: E402
import torch  # noqa: E402
import torch._dynamo  # noqa: E402 - once, here, and not in each process
import train  # noqa: E402
from _machine import (  # noqa: E402
    about,
    add_device,
    finish,
    gigaflops,
    matrix_rate,
    memory_rate,
    seconds_of,
    spread,
)
from _sizes import config_of, world_of  # noqa: E402

import genie  # noqa: E402
from genie.core.io import replacing  # noqa: E402

PASSES, HISTORY, MANY = 8, 15, 64
BATCH = 8
"""Clips of a training step; operations are counted in float32, which takes the most memory."""
REHEARSED = "peers16"
"""Sizes that stand for all others where the list is only rehearsed."""
RESERVE_S = 3.0
"""Left at the end: to stop a process, to write and to come back."""
OUT_OF_TIME = "not run: budget"
SHORTEST_S = 6.0
"""A part is not begun with less."""


@dataclass(frozen=True)
class Bar:
    """What is asked: at least `least`, in `unit`."""

    least: float
    unit: str


ONE, ALL, SHARE = "frames/s, one player", f"frames/s, {MANY} players", "of the bf16 matrix rate"
BARS = {
    "50M": Bar(150, ONE),
    "300M": Bar(90, ONE),
    "1B": Bar(45, ONE),
    "3B": Bar(20, ONE),
    "64 x 50M": Bar(2000, ALL),
    "train tokenizer": Bar(0.4, SHARE),
    "train actions": Bar(0.4, SHARE),
    "train dynamics": Bar(0.4, SHARE),
}


@dataclass(frozen=True)
class Row:
    """One measurement: a bar, and how it is tried."""

    bar: str
    how: str


@dataclass(frozen=True)
class Part:
    """Rows that one process measures, in at most so many seconds."""

    rows: tuple[Row, ...]
    limit: float


def _rows(bars: tuple[str, ...], ways: tuple[str, ...]) -> tuple[Row, ...]:
    return tuple(Row(bar, how) for how in ways for bar in bars)


MODELS = ("train tokenizer", "train actions", "train dynamics")
PLAIN, COMPILED = ("plain", "graph"), ("compiled", "compiled graph")
FIRST = (
    Part((Row("machine", "rates"),), 40),
    Part(_rows(("50M", "64 x 50M"), PLAIN), 45),
    *(Part(_rows((size,), PLAIN), 35) for size in ("300M", "1B", "3B")),
    Part(_rows(MODELS, ("plain",)), 45),
)
"""Every bar has a figure before anything is compiled."""
COMPILING = Row("compiling", "at once")
COMPILING_S = 80
THEN = (
    Part(_rows(("50M", "64 x 50M"), COMPILED), 60),
    *(Part((Row(model, "compiled"),), 40) for model in reversed(MODELS)),
    *(Part(_rows((size,), COMPILED), 45) for size in ("300M", "1B", "3B")),
    Part((Row("50M", "reduce-overhead"),), 40),
)


def rates(options: argparse.Namespace) -> tuple[float, float]:
    """Operations and bytes per second that the machine reaches, both in 1e9; measured once."""
    if options.rates is None:
        options.rates = matrix_rate(torch.bfloat16, options.device), memory_rate(options.device)
    return options.rates


def measure(row: Row, options: argparse.Namespace) -> dict[str, Any]:
    """What came of a row: figures, with `value` in the unit of its bar."""
    if row.bar == "machine":
        matrix, memory = rates(options)
        figures = {"matrix_gflops": round(matrix, 1), "memory_gigabytes": round(memory, 1)}
        return {**figures, "about": about()}
    if row.bar in MODELS:
        return measure_training(row, options)
    return measure_play(row, options)


def measure_training(row: Row, options: argparse.Namespace) -> dict[str, Any]:
    """A training step of the preset `coinrun`, or of the rehearsal's sizes."""
    asked = _training(row, options)
    matrix, _ = rates(options)
    figures = train.measure(asked, row.bar.removeprefix("train "), "bf16", matrix)
    return {"value": figures["of_the_matrix_rate"], "batch": asked.batch, **figures}


def _training(row: Row, options: argparse.Namespace) -> argparse.Namespace:
    return argparse.Namespace(
        sizes=REHEARSED if options.rehearse else "coinrun",
        batch=1 if options.rehearse else BATCH,
        steps=2 if options.rehearse else 10,
        device=options.device,
        compile=row.how == "compiled",
    )


def measure_play(row: Row, options: argparse.Namespace) -> dict[str, Any]:
    """Frames per second of a world with random weights, its cache full."""
    world, players, gflop = _playing(row, options)
    history, steps = (2, 3) if options.rehearse else (HISTORY, 20)
    measured = measure_graph if row.how.endswith("graph") else play.measure
    figures = measured(world, players, history, steps)
    return {
        "value": figures["frames_per_second"],
        **floor(world, players, players * gflop, options),
        **figures,
    }


def _playing(row: Row, options: argparse.Namespace) -> tuple[genie.Genie, int, float]:
    """World and number of players of a row, and the operations of a player's frame in 1e9."""
    many = 3 if options.rehearse else MANY
    name = REHEARSED if options.rehearse else row.bar.split()[-1]
    world, gflop = built(name, 2 if options.rehearse else PASSES, options.device)
    if row.how in COMPILED:
        world.compile()
    if row.how == "reduce-overhead":
        world.compile(mode=row.how)
    return world, many if row.bar == "64 x 50M" else 1, gflop


def prepare(row: Row, options: argparse.Namespace) -> None:
    """Compiles what a row needs; PyTorch keeps it on the disk for the process that measures."""
    if row.bar not in MODELS:
        world, players, _ = _playing(row, options)
        return play.Game(world, players)()
    asked = _training(row, options)
    name = row.bar.removeprefix("train ")
    model = train.model_and_batch(config_of(asked.sizes), name, asked.batch, asked.device)
    return train.stepping(*model, torch.bfloat16, True)()


@cache
def built(name: str, passes: int, device: torch.device) -> tuple[genie.Genie, float]:
    """A world and the operations of a frame in 1e9, which a compiled world would hide.

    It is made where it plays: three billion weights take the CPU most of a minute.
    """
    with device:
        world = world_of(name, passes, device).to(torch.bfloat16)
    return world, gigaflops(play.Game(world))


def floor(
    world: genie.Genie, players: int, gflop: float, options: argparse.Namespace
) -> dict[str, Any]:
    """What a frame of all players needs, and how long that takes at the machine's rates."""
    matrix, memory = rates(options)
    read = play.gigabytes(play.Game(world, players))
    return {
        "parameters": sum(weight.numel() for weight in world.dynamics.parameters()),
        "gflop": round(gflop, 2),
        "gigabytes": round(read, 3),
        "floor_ms": round(1e3 * max(gflop / matrix, read / memory), 3),
    }


def measure_graph(world: genie.Genie, players: int, history: int, steps: int) -> dict[str, Any]:
    """The same as `play.measure` with a whole step as one CUDA graph."""
    game = GraphGame(world, players)
    checked = play.Game(world, players)
    for _ in range(3):
        game(), checked()
    finish()
    close = (game.state.frames.int() - checked.state.frames.int()).abs() <= 1
    for _ in range(history):
        game()
    seconds = seconds_of(game, steps, warm_up=2)
    return {
        "players": players,
        "frames_per_second": round(players / float(np.median(seconds)), 1),
        "pixels_as_without_graph": round(close.float().mean().item(), 4),
        **spread(seconds),
    }


class GraphGame(play.Game):
    """Players whose step is captured once and replayed: it costs one launch.

    A replay reads and writes the memory of its capture, so each step ends by copying the new state
    to where the next one reads the old. On a CPU the step is called instead.
    """

    def __init__(self, world: genie.Genie, players: int) -> None:
        super().__init__(world, players)
        self.state = _copied(self.state)  # no two tensors of it in the same memory
        self.buttons = torch.zeros(players, dtype=torch.int64, device=world.device)
        began = _copied(self.state)
        self.asked = False
        world._check_actions = (
            self._unchecked
        )  # to look at the values of buttons, a graph would wait
        try:
            self._once()
            assert self.asked, "a step no longer asks `_check_actions`, so a graph would check them"
            self.replay = self._captured() if world.device.type == "cuda" else self._once
        finally:
            del world._check_actions
        _copy(began, self.state)

    def __call__(self) -> None:
        self.replay()

    def _unchecked(self, *_: Any) -> torch.Tensor:
        self.asked = True
        return self.buttons

    def _once(self) -> None:
        _, after = self.world.step(self.state, self.buttons)
        _copy(after, self.state)

    def _captured(self) -> Callable[[], None]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # what is made at a first call must not be part of the graph
                self._once()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._once()
        return graph.replay


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors of a state, in a fixed order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _tensors(part)
    elif is_dataclass(value):
        for part in fields(value):
            yield from _tensors(getattr(value, part.name))


def _copied(value: Any) -> Any:
    """A state in memory of its own."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, tuple):
        return tuple(_copied(part) for part in value)
    if not is_dataclass(value):
        return value
    parts = {part.name: _copied(getattr(value, part.name)) for part in fields(value)}
    return replace(value, **parts)  # type: ignore[type-var]


def _copy(source: Any, target: Any) -> None:
    """Writes a state where another one stands."""
    for new, old in zip(_tensors(source), _tensors(target), strict=True):
        if new is not old:
            old.copy_(new)


class Report:
    """The rows known so far, printed and written as they come."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.rows = options, []
        self.head: dict[str, Any] = {"minutes": options.minutes, "rehearsed": options.rehearse}

    def add(self, row: Row, result: dict[str, Any]) -> None:
        """Takes a row's figures, or why there are none."""
        self.head |= {"about": result.pop("about")} if "about" in result else {}
        if "matrix_gflops" in result:
            self.options.rates = result["matrix_gflops"], result["memory_gigabytes"]
        at = round(time.monotonic() - BEGAN, 1)
        self.rows.append({**asdict(row), "at_s": at, **result})
        print(f"{at:6.1f} s  {row.bar:16} {row.how:16} {_sentence(row, result)}", flush=True)
        if self.options.json:
            with replacing(self.options.json) as part:
                part.write_text(json.dumps(self.results(), indent=1) + "\n")

    def results(self) -> dict[str, Any]:
        """Everything, with the best figure of each bar."""
        bars = {name: {**asdict(bar), **self._best(name)} for name, bar in BARS.items()}
        return {**self.head, "bars": bars, "rows": self.rows}

    def _best(self, bar: str) -> dict[str, Any]:
        rows = [row for row in self.rows if row["bar"] == bar]
        known = [row for row in rows if "value" in row]
        if not known:
            return {"best": None, "why": [row.get("not_measured") for row in rows]}
        best = max(known, key=lambda row: row["value"])
        reached = best["value"] >= BARS[bar].least
        return {"best": best["value"], "how": best["how"], "reached": reached}


def _sentence(row: Row, result: dict[str, Any]) -> str:
    if "not_measured" in result:
        return result["not_measured"].splitlines()[0][:100]
    if row.bar == "machine":
        return f"{result['matrix_gflops']} GFLOP/s, {result['memory_gigabytes']} GB/s"
    if row.bar not in BARS:
        return f"{result['took_s']} s, {result['done']} of {result['of']} in time"
    bar = BARS[row.bar]
    timed = f"{result['ms']} ms, floor {result['floor_ms']} ms"
    return f"{result['value']} {bar.unit}; bar {bar.least:g}; {timed}"


def work(part: Part, options: argparse.Namespace, answers: Connection) -> None:
    """What the process of a part does: an answer for each row, and a reason where it fails."""
    _begin(options)
    for row in part.rows:
        began = time.perf_counter()
        try:
            result = measure(row, options)
        except Exception as error:
            text = str(error).strip() or "no message"
            result = {"not_measured": f"failed: {type(error).__name__}: {text[:2000]}"}
        answers.send({**result, "took_s": round(time.perf_counter() - began, 1)})


def _begin(options: argparse.Namespace) -> None:
    os.setpgid(0, 0)  # so that compilers that it starts can be stopped with it
    if options.rehearse and not options.compile:
        torch.compiler.set_stance("force_eager")


def prepare_all(parts: list[Part], options: argparse.Namespace, limit: float) -> dict[str, Any]:
    """Compiles for all parts at the same time; what fails here is tried again where it is timed."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_prepare_part, args=(part, options)) for part in parts]
    began = time.monotonic()
    for process in processes:
        process.start()
    for process in processes:
        process.join(max(0.0, began + limit - time.monotonic()))
    done = sum(process.exitcode == 0 for process in processes)
    for process in processes:
        _end(process)
    return {"took_s": round(time.monotonic() - began, 1), "done": done, "of": len(parts)}


def _prepare_part(part: Part, options: argparse.Namespace) -> None:
    _begin(options)
    for row in part.rows:
        if not row.how.endswith("graph"):  # it replays what the row before it compiled
            prepare(row, options)


def run(part: Part, options: argparse.Namespace, report: Report, until: float) -> None:
    """Measures the rows of a part in a process of its own, which ends with it."""
    context = multiprocessing.get_context("fork")  # what is imported stays imported
    answers, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(part, options, theirs))
    limit = min(part.limit, until - time.monotonic())
    if limit < min(SHORTEST_S, part.limit):
        for row in part.rows:
            report.add(row, {"not_measured": OUT_OF_TIME})
        return
    late = OUT_OF_TIME if limit < part.limit else f"failed: took more than {limit:g} s"
    stop = time.monotonic() + limit
    process.start()
    theirs.close()
    try:
        for row in part.rows:
            report.add(row, _answer(answers, stop, late) or {"not_measured": _ending(process)})
    finally:
        _end(process)


def _answer(answers: Connection, stop: float, late: str) -> dict[str, Any] | None:
    """The next answer, or that it is late; nothing where the process ended."""
    try:
        in_time = answers.poll(max(0.0, stop - time.monotonic()))
        return answers.recv() if in_time else {"not_measured": late}
    except EOFError:
        return None


def _ending(process: Any) -> str:
    process.join(2)
    code = process.exitcode
    name = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
    return f"failed: its process ended with {name}"


def _end(process: Any) -> None:
    """Stops a process and those that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()  # it has no group of its own yet, or is gone
    process.join(2)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=4.0, help="of wall time in all, 4")
    parser.add_argument("--rehearse", action="store_true", help="the same list with tiny worlds")
    parser.add_argument("--compile", action="store_true", help="also compile in a rehearsal")
    add_device(parser)
    parser.set_defaults(device=torch.device("cuda"), rates=None)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    report, until = Report(options), BEGAN + 60 * options.minutes - RESERVE_S
    for part in FIRST:
        run(part, options, report, until)
    compiling_s = min(COMPILING_S, (until - time.monotonic()) / 2)
    if compiling_s > SHORTEST_S:
        report.add(COMPILING, prepare_all(list(THEN), options, compiling_s))
    else:
        report.add(COMPILING, {"not_measured": OUT_OF_TIME})
    for part in THEN:
        run(part, options, report, until)


if __name__ == "__main__":
    main()
