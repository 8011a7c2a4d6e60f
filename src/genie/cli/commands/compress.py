"""`genie compress`: a world with matrices of 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genie.cli.commands import Command

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("world", help="folder of a world, its id on the Hub, or its name")
    parser.add_argument("--out", required=True, help="folder to write the smaller world into")


def _run(options: Namespace) -> None:
    from genie.world.compress import compress
    from genie.world.hub import world_folder
    from genie.world.weight_files import size_of

    out = compress(options.world, options.out)
    before, after = (size_of(folder) / 1e6 for folder in (world_folder(options.world), out))
    print(f"{out}: weights of {after:.1f} MB, {before:.1f} MB before")
    print(f"measure what it costs: genie evaluate {options.world} {out} --data STORE --quick")


COMMAND = Command(
    order=21,
    about="write a world with matrices of 8 bits",
    example="",
    options=_options,
    run=_run,
)
