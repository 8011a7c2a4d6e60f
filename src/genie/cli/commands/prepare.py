"""`genie prepare`: turn videos into a clip store."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from genie.cli.commands import Command
from genie.cli.options import values_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jsonargparse import ArgumentParser, Namespace

    from genie.data.prepare import PrepareReport


SHOWN_NOTES = 10
"""Most lines about videos; all notes are in the store."""
WHY = {
    "short": "too short",
    "static": "static",
    "quality": "below the quality",
    "duplicate": "near duplicates",
}


def _options(parser: ArgumentParser) -> None:
    from genie.data.prepare import prepare

    parser.add_argument(
        "source", help="folder or address (s3://, gs://, https://) of videos, at any depth"
    )
    parser.add_function_arguments(prepare, skip={"source"})
    parser.add_argument(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="ray divides the videos among the machines of a Ray cluster (RAY_ADDRESS)",
    )
    parser.add_argument(
        "--shards", type=int, help="number of shares with --engine ray; four per core when left out"
    )


def _run(options: Namespace) -> None:
    from genie.data.engines import prepare_on_ray
    from genie.data.prepare import prepare

    values = values_of(options)
    engine, shards = values.pop("engine"), values.pop("shards")
    if engine == "local":
        print_report(prepare(**values))
        return
    others = ("shard", "workers")
    given = {name: each for name, each in values.items() if name not in others or each is not None}
    print_report(prepare_on_ray(**given, shards=shards))


def print_report(report: PrepareReport) -> None:
    """Prints what became of the videos, with a line for each kind of problem on standard error."""
    for problems in (report.skipped, report.notes):
        kinds = _by_kind(problems)
        for videos in kinds[:SHOWN_NOTES]:
            more = f" and {len(videos) - 1:,} more videos" if len(videos) > 1 else ""
            like = f"; each note is in {report.store}/store.json" if more else ""
            print(f"note: {videos[0]}{more}: {problems[videos[0]]}{like}", file=sys.stderr)
        if len(kinds) > SHOWN_NOTES:
            rest = sum(map(len, kinds[SHOWN_NOTES:]))
            print(f"note: {rest:,} more videos in {report.store}/store.json", file=sys.stderr)
    splits = ", ".join(f"{count:,} {split}" for split, count in report.frames.items())
    done = " (was complete before)" if report.complete_before else ""
    kinds = ", ".join(f"{kind}: {count:,}" for kind, count in report.kinds.items())
    of = f"{report.used:,} of {report.videos:,} videos ({kinds})"
    counts = f"{report.episodes:,} clips of {of}, {splits} frames"
    print(f"{report.store}: {counts}{done}")
    left_out = ", ".join(f"{WHY[why]}: {count:,}" for why, count in report.left_out.items())
    if left_out:
        print(f"clips left out: {left_out}")


def _by_kind(problems: Mapping[str, str]) -> list[list[str]]:
    """Returns the videos of each kind of problem. Problems of one kind differ in numbers only."""
    kinds: dict[str, list[str]] = {}
    for video, reason in problems.items():
        kinds.setdefault(re.sub(r"[\d.,]+", "", reason), []).append(video)
    return list(kinds.values())


COMMAND = Command(
    order=1,
    about="turn a folder of videos into a clip store",
    example="prepare videos/ --out data/coinrun",
    options=_options,
    run=_run,
    less_memory="lower --workers, --height and --width",
)
