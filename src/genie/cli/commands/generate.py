"""`genie generate`: play a list of actions into a video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genie.cli.commands import Command
from genie.cli.options import require_device, values_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def _options(parser: ArgumentParser) -> None:
    from genie.world.generate import generate

    parser.add_argument(
        "world",
        help="folder of a world, its id on the Hugging Face Hub, or the name of one that comes "
        "with the package",
    )
    parser.add_argument(
        "prompt",
        nargs="?",
        help="picture to start from; one of the world's own when left out",
    )
    parser.add_function_arguments(generate, skip={"world", "prompt"})


def _run(options: Namespace) -> None:
    from genie.world.generate import generate

    require_device(options.device)
    for path in generate(**values_of(options)):
        print(path)


COMMAND = Command(
    order=4,
    about="play a list of actions into a video",
    example="generate runs/coinrun prompt.png --actions 1,1,2,0 --out clip.mp4",
    options=_options,
    run=_run,
    less_memory="give --dtype bfloat16, or play a smaller world",
)
