"""How does the cost of a frame grow with the game's length, the players, the frame and the model?

Random weights, four passes, patch 8. A cost that does not depend on something is flat in it; with
all else it should grow no faster than the operations, which are counted beside it.

python benchmarks/growth.py --json growth.json --plot growth.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from _machine import add_device, gigaflops, seconds_of, spread, tell
from _sizes import world_of
from play import Game

import genie
from genie.world.config import GenieConfig

HISTORY, PLAYERS, SIDES, WIDTHS = (
    (20, 100, 300, 1000),
    (1, 2, 4, 8, 16),
    (32, 64, 96, 128),
    (64, 128, 256, 512),
)


def sized(device: torch.device, side: int = 64, width: int = 128) -> genie.Genie:
    """The tiny world with frames and dynamics of another size."""
    config: GenieConfig = world_of("tiny").config
    dynamics = replace(config.dynamics, width=width, heads=max(1, width // 32))
    return (
        genie.Genie(replace(config, height=side, width=side, dynamics=dynamics)).eval().to(device)
    )


def over_history(steps: int, device: torch.device) -> list[dict[str, Any]]:
    """One game at several lengths, in turn, so that a noisy machine slows all of them alike."""
    game, played, states = Game(sized(device)), 0, {}
    for history in HISTORY:
        seconds_of(game, history - played, warm_up=0)
        played, states[history] = history, game.state
    spent: dict[int, list[float]] = {history: [] for history in HISTORY}
    for _ in range(steps):
        for history, state in states.items():
            game.state = state
            spent[history] += seconds_of(game, 1, warm_up=0)
    return [{"history": history, **spread(seconds)} for history, seconds in spent.items()]


def over(
    name: str, values: tuple[int, ...], make: Callable[[int], Game], steps: int
) -> list[dict[str, Any]]:
    """A game for each value."""
    rows = []
    for value in values:
        game = make(value)
        work = gigaflops(game)
        rows.append({name: value, **spread(seconds_of(game, steps)), "gflop": round(work, 3)})
    return rows


def plot(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Milliseconds per step against each quantity; dashed, the growth of the operations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(results), figsize=(4 * len(results), 3), layout="tight")
    for axis, (name, rows) in zip(axes, results.items(), strict=True):
        values, spent = [row[name] for row in rows], [row["ms"] for row in rows]
        axis.plot(values, spent, "o-", label="measured")
        if "gflop" in rows[0]:
            work = [row["gflop"] / rows[-1]["gflop"] * spent[-1] for row in rows]
            axis.plot(values, work, "--", label="operations")
        limits = {"xlim": (0, None), "ylim": (0, 1.1 * max(spent))}
        axis.set(xlabel=name.replace("_", " "), ylabel="ms per step", **limits)
        axis.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=30)
    add_device(parser)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    steps, device = options.steps, options.device
    results = {
        "history": over_history(steps, device),
        "players": over("players", PLAYERS, lambda n: Game(sized(device), n, 5), steps),
        "frame_side": over(
            "frame_side", SIDES, lambda side: Game(sized(device, side), 1, 5), steps
        ),
        "width": over("width", WIDTHS, lambda width: Game(sized(device, width=width), 1, 5), steps),
    }
    if options.plot:
        plot(results, options.plot)
    tell(results, options.json)


if __name__ == "__main__":
    main()
