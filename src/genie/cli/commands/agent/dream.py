"""`genie agent dream`: train an agent in a world, without the real game."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genie.cli.commands import Command
from genie.cli.options import require_device, values_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

GROUPS = ("learning", "game", "test")


def _options(parser: ArgumentParser) -> None:
    from genie.agents.dreaming.dream import RealTestConfig, dream
    from genie.agents.dreaming.learn import DreamConfig
    from genie.agents.real_game import RealGameConfig

    parser.add_argument(
        "world",
        help="folder of a world, its id on the Hugging Face Hub, or the name of one that comes "
        "with the package",
    )
    parser.add_function_arguments(dream, skip={"world", *GROUPS})
    for name, kind in zip(GROUPS, (DreamConfig, RealGameConfig, RealTestConfig), strict=True):
        parser.add_class_arguments(kind, name)


def _run(options: Namespace) -> None:
    from genie.agents.dreaming.dream import RealTestConfig, dream
    from genie.agents.dreaming.learn import DreamConfig
    from genie.agents.real_game import RealGameConfig

    values = values_of(options)
    require_device(values["device"])
    for name, kind in zip(GROUPS, (DreamConfig, RealGameConfig, RealTestConfig), strict=True):
        values[name] = kind(**_plain(values[name]))
    made = dream(**values)
    for line in _lines(made.report):
        print(line)
    print(f"{made.folder}: the agent and report.json")


def _plain(values: Any) -> dict[str, Any]:
    return dict(values if isinstance(values, dict) else vars(values))


def _lines(report: dict[str, Any]) -> list[str]:
    held = report.get("held_out")
    if held is None:
        return [f"{report['dreams']:,} batches of dreams"]
    lines = []
    for name in ("agent", "start", "random play"):
        part = held[name]
        interval = f"95 %: {part['low']:.2f} to {part['high']:.2f}"
        lines.append(f"{name}: mean return {part['mean']:.2f} ({interval})")
    return lines


COMMAND = Command(
    order=17,
    about="train an agent in a world, without the real game",
    example="",
    options=_options,
    run=_run,
)
