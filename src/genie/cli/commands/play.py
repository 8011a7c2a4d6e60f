"""`genie play`: play a world in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genie.cli.commands import Command
from genie.cli.options import require_device, speed_options
from genie.core.config import require
from genie.world import bundled

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def _options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "world",
        nargs="?",
        help="folder of a world, its id on the Hugging Face Hub, or one that comes with the "
        f"package, {', '.join(bundled.names())}; all of these to choose from when left out",
    )
    parser.add_argument("--prompt", help="picture, or folder of pictures, that games start from")
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to serve on")
    parser.add_argument("--port", type=int, default=8000, help="TCP port; 0 takes any free one")
    parser.add_argument("--fps", type=float | None, help="frames per second; the world's own")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--agent", help="folder of an agent; the page can let it play the world")
    speed_options(parser)


def _run(options: Namespace) -> None:
    from genie.serving import serve
    from genie.serving.http.auth import is_loopback
    from genie.serving.limits import Limits

    require_device(options.device)
    require(
        is_loopback(options.host),
        f"host: {options.host} is not a loopback address, and this command serves this machine "
        "only; use `genie serve` with a token for other machines, or a tunnel, for example: "
        "ssh -L 8000:127.0.0.1:8000 THIS-MACHINE",
    )
    known = options.agent is None or options.world is not None
    require(known, "agent: name the world that the agent plays, as in genie play WORLD --agent A")
    serve(
        *([options.world] if options.world else []),
        host=options.host,
        port=options.port,
        prompts=options.prompt,
        # Each batch size is compiled before play starts: few players, few sizes.
        limits=Limits(players=4) if options.compile else None,
        open_browser=options.open,
        action_names=True,
        fps=options.fps,
        device=options.device,
        dtype=options.dtype,
        compile=options.compile,
        agent=options.agent,
    )


COMMAND = Command(
    order=5,
    about="play a world in the browser",
    example="play runs/coinrun",
    options=_options,
    run=_run,
    less_memory="give --dtype bfloat16, or play a smaller world",
)
