"""`genie merge`: join the parts of a clip store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genie.cli.commands import Command
from genie.cli.commands.prepare import print_report

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("out", help="folder of the store to make")
    parser.add_argument("parts", nargs="+", help="folders that `genie prepare --shard` made")
    parser.add_argument("--progress", type=bool, default=True, help="show a progress bar")


def _run(options: Namespace) -> None:
    from genie.data.merge import merge

    print_report(merge(options.out, options.parts, progress=options.progress))


COMMAND = Command(
    order=14,
    about="join the parts of a clip store that shards made",
    example="",
    options=_options,
    run=_run,
)
