"""Whether a training computes the same on 1, 2 and 4 processes (gloo, fp32), sharded or not."""

from __future__ import annotations

import csv
from argparse import ArgumentParser
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import _group
import _toy
import torch
from _machine import tell
from rich.console import Console

LIMIT = 1e-5
"""Differences of losses above this count."""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--strategy", choices=["ddp", "fsdp"], default="ddp")
    parser.add_argument("--shard-over", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        _toy.write_store(data)
        run = partial(losses_on, data, steps=options.steps, shard_over=options.shard_over)
        losses = {"ddp 1": run(Path(folder) / "one", 1, "ddp")}
        for count in options.ranks:
            name = f"{options.strategy} {count}"
            losses[name] = run(Path(folder) / name, count, options.strategy)
    first = losses["ddp 1"]
    rows = [
        {
            "ranks": ranks,
            "stage": stage,
            "steps": len(values),
            "first_loss": values[0],
            "last_loss": values[-1],
            "largest_difference": max(apart := differences(values, first[stage])),
            "first_step_apart": next((i for i, by in enumerate(apart) if by > LIMIT), None),
        }
        for ranks, stages in losses.items()
        for stage, values in stages.items()
    ]
    tell({"shard_over": options.shard_over, "rows": rows}, options.json)


def losses_on(
    data: Path, out: Path, ranks: int, strategy: str, steps: int, shard_over: int = 0
) -> dict[str, list[float]]:
    """The losses of each stage, step by step."""
    for process in (
        group := _group.start(ranks, train_here, data, out, steps, ranks, strategy, shard_over)
    ):
        process.join()
    assert all(process.exitcode == 0 for process in group)
    return losses_in(out)


def train_here(
    data: Path, out: Path, steps: int, ranks: int, strategy: str, shard_over: int
) -> None:
    from genie.training.pipeline import train

    torch.set_num_threads(1)
    schedule = _toy.schedule(
        steps, ranks, strategy=strategy, shard_over=shard_over if strategy == "fsdp" else 0
    )
    console = Console(file=out.with_suffix(".log").open("a"))
    train(data, out, world=_toy.world(), train=schedule, console=console)


def losses_in(out: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for path in sorted((out / "logs" / "csv").glob("*/metrics.csv")):
        with path.open() as file:
            losses = [float(row["loss"]) for row in csv.DictReader(file)]
        found[path.parent.name.partition("-")[0]] = losses
    return found


def differences(some: list[float], others: list[float]) -> list[float]:
    return [abs(a - b) for a, b in zip(some, others, strict=True)]


if __name__ == "__main__":
    main()
