"""`genie serve`: serve worlds to others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from genie.cli.commands import Command
from genie.cli.options import require_device, speed_options, values_of
from genie.world import bundled

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def _options(parser: ArgumentParser) -> None:
    from genie.serving.limits import Limits

    parser.add_argument(
        "worlds",
        nargs="*",
        default=[bundled.DEFAULT],
        metavar="WORLD",
        help="folders of worlds, ids on the Hugging Face Hub, or names of those that come with the "
        f"package; {bundled.DEFAULT} when left out. Each goes by the last part of it",
    )
    words = "address to serve on; one that is not loopback wants a token"
    parser.add_argument("--host", default="127.0.0.1", help=words)
    parser.add_argument("--port", type=int, default=8000, help="TCP port; 0 takes any free one")
    parser.add_argument(
        "--token_file",
        help="file with the token that clients have to know; $GENIE_TOKEN when left out",
    )
    parser.add_argument(
        "--hosts",
        type=list[str],
        default=[],
        help="names that clients call this server by, such as [play.example.org]",
    )
    parser.add_argument(
        "--handover",
        help="folder that all replicas of this server share, for states of games; a game whose "
        "replica died continues on another one without being played again from its start",
    )
    parser.add_argument(
        "--resume_key_file",
        help="file with the key that all replicas sign games with; $GENIE_RESUME_KEY when left out",
    )
    speed_options(parser)
    parser.add_argument(
        "--action_names",
        action="store_true",
        help="let players save names for the buttons in the world folders",
    )
    parser.add_class_arguments(Limits, "limits")


def _run(options: Namespace) -> None:
    from genie.core.config import from_dict
    from genie.serving import serve
    from genie.serving.limits import Limits
    from genie.world.handover import Handover

    values = values_of(options)
    require_device(values["device"])
    values["token"] = _secret(values.pop("token_file"), "GENIE_TOKEN")
    key = _secret(values.pop("resume_key_file"), "GENIE_RESUME_KEY")
    limits = from_dict(Limits, values.pop("limits"), "limits")
    values["handover"] = Handover(key, values["handover"], games=limits.players)
    serve(*values.pop("worlds"), limits=limits, **values)


def _secret(file: str | None, variable: str) -> str | None:
    text = Path(file).read_text("utf-8").strip() if file else os.environ.get(variable)
    return text or None


COMMAND = Command(
    order=7,
    about="serve worlds to others: players, clips on request, metrics",
    example="",
    options=_options,
    run=_run,
    less_memory="lower --limits.players, give --dtype bfloat16, or serve a smaller world",
)
