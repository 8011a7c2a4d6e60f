"""`genie press`: name a world's actions by pressing keys to a clip, and save the mapper."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from genie.cli.commands import Command
from genie.cli.options import require_device
from genie.core.config import Device, require

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

# Procgen's names of directions, in the order of their numbers.
NAMES = (
    "left+down", "left", "left+up", "down", "noop", "up", "right+down", "right", "right+up",
)  # fmt: skip


def _options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "world",
        help="folder of a world, its id on the Hugging Face Hub, or the name of one that comes "
        "with the package",
    )
    parser.add_argument(
        "--clip",
        help="video of the game that is shown; the world plays its own actions when left out",
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the clip")
    parser.add_argument(
        "--names",
        type=list[str],
        default=list(NAMES),
        help="real actions in the order of their numbers; + joins keys held together",
    )
    parser.add_argument(
        "--delay",
        type=float | None,
        help="seconds between what is seen and the key; estimated when left out",
    )
    parser.add_argument(
        "--kind",
        choices=("dictionary", "network"),
        default="dictionary",
        help="dictionary counts which actions occur together; network also sees the frame",
    )
    parser.add_argument("--out", help="folder of the mapper, as for genie map")
    parser.add_argument(
        "--seed", type=int, default=0, help="determines the clip that the world plays"
    )
    parser.add_argument("--port", type=int, default=8000, help="TCP port; 0 takes any free one")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--device", type=Device | None, help="where to run; chosen when left out")


def _run(options: Namespace) -> None:
    from genie.agents.pressing import Pressing, folder_of, played_clip, video_clip
    from genie.serving import serve
    from genie.world.genie import Genie
    from genie.world.hub import world_folder

    require_device(options.device)
    require(0 < options.seconds <= 600, "seconds: expected more than 0 and at most 600")
    world = Genie.from_pretrained(world_folder(options.world), options.device)
    reports = list[dict[str, Any]]()

    def made(report: dict[str, Any]) -> None:
        reports.append(report)
        signal.raise_signal(signal.SIGINT)  # the server answers, then it stops

    clip = (
        played_clip(world, options.seconds, options.seed)
        if options.clip is None
        else video_clip(world, options.clip, options.seconds)
    )
    folder = folder_of(options.world, options.out)
    pressing = Pressing(
        world, clip, options.names, folder, kind=options.kind, delay=options.delay, on_made=made
    )
    print(
        f"Hold the keys that would do what you see, for {len(clip.frames) / clip.fps:.0f} seconds."
    )
    serve(
        world,
        port=options.port,
        open_browser=options.open,
        extend=pressing.add_to,
        page="press.html",
    )
    for report in reports:
        print(_line(report))
        print(f"{folder}: the mapper and report.json")


def _line(report: dict[str, Any]) -> str:
    right = report["last_quarter"]["to_real"]["accuracy"]
    return (
        f"{report['labels']:,} frames with keys, {report['delay_seconds']:.2f} seconds late; "
        f"in the last quarter the mapper says {right:.2f} of the keys, the commonest action "
        f"{report['commonest']:.2f}"
    )


COMMAND = Command(
    order=20,
    about="name the actions of a world by pressing keys to a clip, without labelled data",
    example="",
    options=_options,
    run=_run,
)
