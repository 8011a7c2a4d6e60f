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
    parser.add_argument(
        "--policy",
        default="sticky",
        help="random takes any action at each step. sticky keeps the action with probability "
        "sticky_action_prob. restless is sticky, but takes another after one that changed no "
        "pixel. mixture is sticky with random_action_prob random actions. Experts, of whose "
        "actions random_action_prob are replaced: runner runs to the right in CoinRun; lookahead "
        "tries its actions out in copies of the game, for CoinRun too; nearest walks the shortest "
        "way to the next reward, in games on a grid such as Miner and Maze; sb3:PATH is a "
        "checkpoint of Stable-Baselines3, which runs the code in it",
    )
    parser.add_function_arguments(record, skip={"env", "policy"})


def _run(options: Namespace) -> None:
    from genie.agents.experts.named import policy_of
    from genie.data.recording.record import record

    values = values_of(options)
    policy = policy_of(values.pop("policy"), values["seed"])
    report = record(**values, policy=policy)
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
