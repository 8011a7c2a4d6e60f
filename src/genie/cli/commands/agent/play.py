"""`genie agent play`: let an agent play the real game and measure what it earns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genie.cli.commands import Command
from genie.cli.options import values_of
from genie.core.config import require

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from genie.agents.real_game import RealGameConfig


def _options(parser: ArgumentParser) -> None:
    from genie.agents.playing import play_game
    from genie.agents.real_game import RealGameConfig

    parser.add_argument("agent", help="folder of an agent")
    parser.add_argument("--world", help="world that plays the same actions in --video")
    parser.add_argument(
        "--video",
        help="MP4 or GIF that is written instead of measuring: the dream of --world on the left, "
        "the real game on the right, from the same frame by the same actions",
    )
    parser.add_argument("--video_games", type=int, default=4, help="games in the video")
    parser.add_argument(
        "--video_steps", type=int, default=60, help="most steps of each game in the video"
    )
    parser.add_function_arguments(play_game, skip={"agent", "game"})
    parser.add_class_arguments(RealGameConfig)


def _run(options: Namespace) -> None:
    from genie.agents.playing import play_game
    from genie.agents.real_game import RealGameConfig

    values = values_of(options)
    video = {name: values.pop(name) for name in ("world", "video", "video_games", "video_steps")}
    own = ("agent", "greedy", "seed", "progress")
    given = {name: values.pop(name) for name in own}
    if video["video"] is not None:
        _write(video, given["agent"], RealGameConfig(**values), given["seed"])
        return
    for name, found in play_game(game=RealGameConfig(**values), **given).items():
        figures = found.figures()
        interval = f"95 %: {figures['low']:.2f} to {figures['high']:.2f}"
        steps = f"{figures['steps']:.0f} steps a game"
        print(f"{name}: mean return {figures['mean']:.2f} ({interval}), {steps}")


def _write(options: dict[str, Any], agent: str, game: RealGameConfig, seed: int) -> None:
    from genie.agents.side_by_side import write_side_by_side

    require(options["world"] is not None, "world: name the world that dreams in the video")
    sizes = {"games": options["video_games"], "steps": options["video_steps"]}
    for name, number in sizes.items():
        require(number >= 1, f"video_{name}: must be at least 1")
    path = write_side_by_side(agent, options["world"], options["video"], game, **sizes, seed=seed)
    print(f"{path}: the dream on the left, the real game on the right")


COMMAND = Command(
    order=18,
    about="let an agent play the real game, and measure what it earns",
    example="",
    options=_options,
    run=_run,
)
