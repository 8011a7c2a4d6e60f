"""`genie demo`: sample videos become a world, a report and a game, in minutes on a CPU."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genie.cli.commands import Command
from genie.cli.commands.actions import name_actions
from genie.cli.headlines import print_headlines
from genie.cli.options import require_device, values_of
from genie.core.config import Device, UserError, require
from genie.world import bundled

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace
    from rich.console import Console

SAMPLES = "samples"
ROLLOUT_FRAMES = 48
SCALE = 4
# Games that a bundled world knows: the demo goes on from there. The others begin from nothing.
BASES = {"coinrun": bundled.DEFAULT}
GOING_ON = {"tokenizer": 0.6, "dynamics": 1.4}
"""Minutes of the stages that go on from a world: its tokenizer has backgrounds to learn."""
FROM_NOTHING = 6.6
"""Minutes of training where there is no world to go on from."""
# Ten cells of Miner's board lie side by side: each is one patch of the tokenizer
# (docs/experiments).
SIDES = {"miner": 80}
# Enough to see what is good and what is not, in a minute on two cores.
MEASURED: dict[str, Any] = {
    "clips": 24,
    "long_clips": 0,
    "times": (1, 4, 8, 16),
    "action_prompts": 3,
    "supervised_clips": 96,
    "inverse_dynamics_steps": 150,
    "closed_loop_games": 16,
    "closed_loop_steps": 8,
    "action_selection_games": 4,
    "figure_clips": 2,
}
PRESSED, LONG_GAMES = 4, (4, 96)
HELD: dict[str, Any] = {"prompts": 16}
"""How actions are measured for the names of keys, in half a minute of a core."""


def demo(
    *,
    game: str | None = None,
    out: str | Path = "runs/demo",
    minutes: float | None = None,
    samples: str | Path = SAMPLES,
    port: int = 8000,
    device: Device | None = None,
    play: bool = True,
) -> Path:
    """Prepares the sample videos, trains a world on them, reports how good it is, and serves it.

    For CoinRun it goes on from the world that comes with the package, and the report says what
    that was before; for the other games it begins from nothing. Each part is skipped when it was
    done before, so that a demo which was stopped goes on.

    Args:
        game: name of the sample videos; those of CoinRun when left out.
        out: folder for the clip store, the world and the report.
        minutes: training time; 2 when it goes on from a world, 6.6 when it begins from nothing. The
            rest takes about four more.
        samples: folder of the sample videos, one folder per game.
        port: where to serve the page; 0 takes any free port.
        device: where to train and play; chosen when left out.
        play: serve the page at the end.

    Returns:
        The world's folder.

    Raises:
        UserError: there are no sample videos; they come with a clone of the repository.
    """
    from rich.console import Console

    require(minutes is None or minutes > 0, f"minutes: {minutes}, must be above 0")
    console, out = Console(highlight=False), Path(out)
    videos = find_samples(Path(samples), game)
    out = out if game is None else out.with_name(f"{out.name}-{game}")
    base, side = BASES.get(videos.name), SIDES.get(videos.name, 64)
    minutes = minutes or (sum(GOING_ON.values()) if base else FROM_NOTHING)
    _title(console, f"1/4  Prepare the videos of {videos}")
    store = _prepare(videos, out / "data", side)
    how = f"Train {base} on them" if base else "Train a world"
    _title(console, f"2/4  {how} for {minutes:g} minutes")
    _train(store, out, side, minutes, device, base)
    _title(console, "3/4  Measure it on levels that it has not seen")
    page = _evaluate(out, store, device, base, console)
    _name_actions(out, store, device)
    _title(console, "4/4  Play a random game into a film")
    print(f"{_rollout(out, device)}\n{page}", flush=True)
    if play:
        _serve(out, port, device)
    else:
        print(f"Play it with: {_command()} play {out}")
    return out


def _command() -> str:
    """How to call genie from here: by name, or by path where its environment is not active."""
    beside = Path(sys.executable).with_name("genie")
    if shutil.which("genie") or not beside.is_file():
        return "genie"
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)


def find_samples(samples: Path, game: str | None) -> Path:
    """The folder of sample videos of a game.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    folders = samples.iterdir() if samples.is_dir() else []
    games = sorted(folder.name for folder in folders if folder.is_dir())
    if not games:
        raise UserError(
            f"{samples}: there are no sample videos; run this in a clone of the repository, or "
            "name their folder with --samples"
        )
    if game is not None and game not in games:
        raise UserError(f"game: there are no videos of {game!r}; choose one of {', '.join(games)}")
    return samples / (game or default_game(games))


def default_game(games: list[str]) -> str:
    """One that a bundled world knows, where it is there: that takes the least time."""
    return next((game for game in games if game in BASES), games[0])


def _title(console: Console, text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]", soft_wrap=True)


def _prepare(videos: Path, store: Path, side: int) -> Path:
    from genie.data.prepare import prepare

    report = prepare(videos, store, height=side, width=side)
    print(f"{sum(report.frames.values()):,} frames in {report.episodes:,} clips")
    return store


def _train(
    store: Path, out: Path, side: int, minutes: float, device: str | None, base: str | None
) -> None:
    from genie.presets import registry
    from genie.training import finetune
    from genie.training.config import RECORD
    from genie.training.pipeline import train

    if base:
        schedule = finetune.schedule_of(base, RECORD)
        assert schedule is not None
        shares: dict[str, Any] = {
            stage: replace(getattr(schedule, stage), steps=0, minutes=share)
            for stage, share in GOING_ON.items()
        }
        schedule = replace(schedule, **shares)
        train(store, out, train=schedule, minutes=minutes, device=device, base=base)
        return
    preset = registry.get("demo")
    world = replace(preset.world, height=side, width=side)
    train(store, out, world=world, train=preset.train, minutes=minutes, device=device)


def _evaluate(
    out: Path, store: Path, device: str | None, base: str | None, console: Console
) -> Path:
    """Measures and prints; returns the page."""
    from genie.evaluation.compare import compare
    from genie.evaluation.config import CoherenceConfig, EvaluationConfig, SeparationConfig
    from genie.evaluation.evaluate import evaluate

    config = replace(
        EvaluationConfig.quick(),
        separation=SeparationConfig(states=PRESSED),
        coherence=CoherenceConfig(rollouts=(LONG_GAMES,), real_frames=2000),
        **MEASURED,
    )
    folder = out / "evaluation"
    if base is None:
        print_headlines(evaluate(out, store, folder, device=device, config=config), console)
        return folder / "report.html"
    reports = compare([base, out], store, folder, device=device, config=config)
    before, after = reports.values()
    print_headlines(after, console, before)
    return folder / "comparison.html"


def _name_actions(out: Path, store: Path, device: str | None) -> None:
    """Gives keys of the page the names of what they do."""
    from genie.plugins.action_effects import EffectsConfig
    from genie.world.action_groups import FILE

    if not (out / FILE).is_file():
        name_actions(out, store, EffectsConfig(**HELD), device)


def _rollout(out: Path, device: Device | None) -> Path:
    from genie.world.generate import generate

    film = out / "rollout.gif"
    return generate(out, frames=ROLLOUT_FRAMES, out=film, scale=SCALE, device=device)[0]


def _serve(out: Path, port: int, device: str | None) -> None:
    from genie.serving.server import serve

    try:
        serve(out, port=port, device=device, action_names=True)
    except UserError as error:
        if port == 0 or not str(error).startswith("port"):
            raise
        warnings.warn(f"{error}; taking a free port", stacklevel=2)
        serve(out, port=0, device=device, action_names=True)


def _options(parser: ArgumentParser) -> None:
    parser.add_function_arguments(demo, skip={"play"})
    parser.add_argument("--no-play", action="store_true", help="end after the report")


def _run(options: Namespace) -> None:
    require_device(options.device)
    values = values_of(options)
    play = not values.pop("no_play") and sys.stdin.isatty()
    demo(**values, play=play)


COMMAND = Command(
    order=13,
    about="make a small world of the sample videos, report, and play it",
    example="",
    options=_options,
    run=_run,
)
