"""`genie prepare`: turn videos into a clip store."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from genie.cli.commands import Command
from genie.cli.options import values_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from genie.data.prepare import PrepareReport


SHOWN_NOTES = 10
"""Of the notes on videos; all of them are in the store."""


def _options(parser: ArgumentParser) -> None:
    from genie.data.prepare import prepare

    parser.add_argument("source", help="folder of videos, at any depth")
    parser.add_function_arguments(prepare, skip={"source"})


def _run(options: Namespace) -> None:
    from genie.data.prepare import prepare

    print_report(prepare(**values_of(options)))


def print_report(report: PrepareReport) -> None:
    """Prints what became of the videos, the first problems on standard error."""
    for problems in (report.skipped, report.notes):
        for video, reason in list(problems.items())[:SHOWN_NOTES]:
            print(f"note: {video}: {reason}", file=sys.stderr)
        if len(problems) > SHOWN_NOTES:
            more = len(problems) - SHOWN_NOTES
            print(f"note: {more} more like these in {report.store}/store.json", file=sys.stderr)
    splits = ", ".join(f"{count:,} {split}" for split, count in report.frames.items())
    done = " (was complete before)" if report.complete_before else ""
    kinds = ", ".join(f"{kind}: {count:,}" for kind, count in report.kinds.items())
    of = f"{report.used:,} of {report.videos:,} videos ({kinds})"
    counts = f"{report.episodes:,} clips of {of}, {splits} frames"
    print(f"{report.store}: {counts}{done}")


COMMAND = Command(
    order=1,
    about="turn a folder of videos into a clip store",
    example="prepare videos/ --out data/coinrun",
    options=_options,
    run=_run,
)
