"""`genie replay`: play a saved game again into a video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genie.cli.commands import Command
from genie.cli.options import require_device, values_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def _options(parser: ArgumentParser) -> None:
    from genie.world.generate import replay

    parser.add_argument("file", help="replay that the page of `genie play` saved")
    parser.add_function_arguments(replay, skip={"file"})


def _run(options: Namespace) -> None:
    from genie.world.generate import replay

    require_device(options.device)
    for path in replay(**values_of(options)):
        print(path)


COMMAND = Command(
    order=6,
    about="play a saved game again into a video",
    example="replay coinrun.replay.json --out clip.mp4",
    options=_options,
    run=_run,
)
