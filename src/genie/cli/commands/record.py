"""`genie record`: play an environment into videos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genie.cli.commands import Command
from genie.cli.options import values_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def _options(parser: ArgumentParser) -> None:
    from genie.data.recording.record import record

    parser.add_argument("env", help="procgen:<game> or gym:<Gymnasium id>")
    parser.add_function_arguments(record, skip={"env"})


def _run(options: Namespace) -> None:
    from genie.data.recording.record import record

    report = record(**values_of(options))
    frames, episodes = sum(report.frames.values()), sum(report.episodes.values())
    print(
        f"{report.out}: {frames:,} frames in {episodes:,} videos, "
        f"{report.frames_per_second:,.0f} frames a second"
    )


COMMAND = Command(
    order=0,
    about="play Procgen or a Gymnasium environment into videos",
    example="record procgen:coinrun --out videos/",
    options=_options,
    run=_run,
)
