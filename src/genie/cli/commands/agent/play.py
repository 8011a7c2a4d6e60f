"""`genie agent play`: let an agent play the real game and measure what it earns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genie.cli.commands import Command
from genie.cli.options import values_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def _options(parser: ArgumentParser) -> None:
    from genie.agents.playing import play_game
    from genie.agents.real_game import RealGameConfig

    parser.add_argument("agent", help="folder of an agent")
    parser.add_function_arguments(play_game, skip={"agent", "game"})
    parser.add_class_arguments(RealGameConfig)


def _run(options: Namespace) -> None:
    from genie.agents.playing import play_game
    from genie.agents.real_game import RealGameConfig

    values = values_of(options)
    own = ("agent", "greedy", "seed", "progress")
    given = {name: values.pop(name) for name in own}
    for name, found in play_game(game=RealGameConfig(**values), **given).items():
        figures = found.figures()
        interval = f"95 %: {figures['low']:.2f} to {figures['high']:.2f}"
        steps = f"{figures['steps']:.0f} steps a game"
        print(f"{name}: mean return {figures['mean']:.2f} ({interval}), {steps}")


COMMAND = Command(
    order=18,
    about="let an agent play the real game, and measure what it earns",
    example="",
    options=_options,
    run=_run,
)
