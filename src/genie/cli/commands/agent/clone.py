"""`genie agent clone`: a policy from expert video without labels, tested in the real game."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genie.cli.commands import Command
from genie.cli.options import require_device, values_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def _options(parser: ArgumentParser) -> None:
    from genie.agents.cloning.clone import clone
    from genie.agents.cloning.fit import CloneConfig
    from genie.agents.real_game import RealGameConfig

    parser.add_argument(
        "world",
        help="folder of a world, its id on the Hugging Face Hub, or the name of one that comes "
        "with the package",
    )
    parser.add_function_arguments(clone, skip={"world", "training", "game"})
    parser.add_class_arguments(CloneConfig, "training")
    parser.add_class_arguments(RealGameConfig, "game")


def _run(options: Namespace) -> None:
    from genie.agents.cloning.clone import clone
    from genie.agents.cloning.fit import CloneConfig
    from genie.agents.real_game import RealGameConfig

    require_device(options.device)
    values = values_of(options)
    training, game = CloneConfig(**values.pop("training")), RealGameConfig(**values.pop("game"))
    made = clone(**values, training=training, game=game)
    _print(made.report)
    print(f"{made.folder}: the agent and report.json")


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    game = report["game"]
    title = f"{game['env']}, {game['levels']} held-out levels, {game['seeds']} games of each"
    table = Table("labels", "", "mean return", "95 %", "of the oracle", title=title)
    for name, part in report["references"].items():
        table.add_row("", name, *_cells(part))
    for line in report["curve"]:
        for name, part in line.items():
            if name != "labels":
                table.add_row(f"{line['labels']:,}", name, *_cells(part))
    Console(highlight=False).print(table)


def _cells(part: dict[str, Any]) -> tuple[str, str, str]:
    share = f"{part['share']['mean']:.0%}" if "share" in part else ""
    return f"{part['mean']:.2f}", f"{part['low']:.2f} to {part['high']:.2f}", share


COMMAND = Command(
    order=15,
    about="clone an expert from video without labels, and test it in the real game",
    example="",
    options=_options,
    run=_run,
)
