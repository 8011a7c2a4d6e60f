"""`genie agent plan`: plan towards goal pictures, and count those that are reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genie.cli.commands import Command
from genie.cli.options import require_device, values_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

TITLES = {
    "latent": "world, latent actions",
    "latent_shooting": "world, latent actions, random shooting",
    "named": "world, real actions",
    "named_shooting": "world, real actions, random shooting",
    "simulator": "real simulator",
    "simulator_shooting": "real simulator, random shooting",
    "random": "random play",
}


def _options(parser: ArgumentParser) -> None:
    from genie.agents.planning.study import plan_to_goals

    parser.add_argument(
        "world",
        help="folder of a world, its id on the Hugging Face Hub, or the name of one that comes "
        "with the package",
    )
    parser.add_function_arguments(plan_to_goals, skip={"world"})


def _run(options: Namespace) -> None:
    from genie.agents.planning.study import plan_to_goals

    require_device(options.device)
    for method, found in plan_to_goals(**values_of(options))["methods"].items():
        print(f"{TITLES[method]}: {_figures(found)}")
    print(f"{options.out}: every goal and these figures")


def _figures(found: dict[str, Any]) -> str:
    reached, above = found["reached"], found.get("above_random")
    text = f"{reached['mean']:.2f} of {found['goals']} goals reached ({_interval(reached)})"
    if above is not None:
        text += f", {above['mean']:+.2f} beside random play ({_interval(above)})"
    return f"{text}; nearest {found['nearest']:.2f} cells"


def _interval(found: dict[str, float]) -> str:
    return f"95 %: {found['low']:.2f} to {found['high']:.2f}"


COMMAND = Command(
    order=19,
    about="plan towards pictures of the real game, and count those that are reached",
    example="",
    options=_options,
    run=_run,
)
