"""`genie demo`: sample videos become a small world, a report and a game, in minutes on a CPU."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from genie.config import UserError, require

if TYPE_CHECKING:
    from rich.console import Console

SAMPLES = "samples"
ROLLOUT_FRAMES = 48
SCALE = 4
# Ten cells of Miner's board lie side by side: so each is one patch of the tokenizer (docs/log.md).
SIDES = {"miner": 80}
# Enough to see what is good and what is not, in a minute on two cores.
MEASURED: dict[str, Any] = {
    "clips": 24,
    "long_clips": 0,
    "times": (1, 4, 8, 16),
    "button_prompts": 3,
    "label_clips": 96,
    "shown_clips": 2,
}
PRESSED, LONG_GAMES = 4, (4, 96)


def demo(
    *,
    game: str | None = None,
    out: str | Path = "runs/demo",
    minutes: float = 6.6,
    samples: str | Path = SAMPLES,
    port: int = 8000,
    device: Literal["cpu", "cuda", "mps"] | None = None,
    play: bool = True,
) -> Path:
    """Prepares the sample videos, trains a small world, reports how good it is, and serves it.

    Each part is skipped when it was done before, so that a demo which was stopped goes on.

    Args:
        game: which sample videos; those of Miner when left out.
        out: folder for the clip store, the world and the report.
        minutes: training time; the rest takes about three more.
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

    require(minutes > 0, f"minutes: {minutes}, must be above 0")
    console, out = Console(highlight=False), Path(out)
    videos = find_samples(Path(samples), game)
    out = out if game is None else out.with_name(f"{out.name}-{game}")
    _title(console, f"1/4  Prepare the videos of {videos}")
    side = SIDES.get(videos.name, 64)
    store = _prepare(videos, out / "data", side)
    _title(console, f"2/4  Train a world for {minutes:g} minutes")
    _train(store, out, side, minutes, device)
    _title(console, "3/4  Measure it on levels that it has not seen")
    print_headlines(_evaluate(out, store, device), console)
    _title(console, "4/4  Play a random game into a film")
    print(f"{_rollout(out, device)}\n{out / 'evaluation' / 'report.html'}", flush=True)
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
    """Miner where it is there: its camera stands still, so what a button does is plain to see."""
    return "miner" if "miner" in games else games[0]


def print_headlines(report: dict[str, Any], console: Console | None = None) -> None:
    """Prints the figures of an evaluation to read first, as a table.

    Args:
        report: as `genie.evaluate` returns it.
        console: where to print; standard output when left out.
    """
    from rich.console import Console
    from rich.table import Table

    from genie.evaluation.summary import figure

    colours = {"good": "green", "fair": "yellow", "poor": "red"}
    table = Table("", "what", "figure", "beside")
    for line in report["headlines"]:
        colour = colours.get(line["verdict"], "white")
        table.add_row(
            f"[{colour}]{line['verdict']}[/{colour}]",
            f"{line['name']}\n[dim]{line['words']}[/dim]",
            figure(line["value"], line["unit"]),
            f"{figure(line['baseline'], line['unit'])}\n[dim]{line['baseline_name']}[/dim]",
        )
    console = console or Console(highlight=False)
    console.print(table)
    for note in report["notes"]:
        console.print(f"note: {note}", markup=False)


def _title(console: Console, text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]", soft_wrap=True)


def _prepare(videos: Path, store: Path, side: int) -> Path:
    from genie.data.prepare import prepare

    report = prepare(videos, store, height=side, width=side)
    print(f"{sum(report.frames.values()):,} frames in {report.episodes:,} clips")
    return store


def _train(store: Path, out: Path, side: int, minutes: float, device: str | None) -> None:
    from genie import presets
    from genie.training.pipeline import train

    preset = presets.get("demo")
    world = replace(preset.world, height=side, width=side)
    train(store, out, world=world, schedule=preset.train, minutes=minutes, device=device)


def _evaluate(out: Path, store: Path, device: str | None) -> dict[str, Any]:
    from genie.evaluation.long_play import LongPlayConfig
    from genie.evaluation.report import EvaluationConfig, evaluate
    from genie.evaluation.separation import SeparationConfig

    config = replace(
        EvaluationConfig.quick(),
        separation=SeparationConfig(states=PRESSED),
        long_play=LongPlayConfig(plays=(LONG_GAMES,), real_frames=2000),
        **MEASURED,
    )
    return evaluate(out, store, out / "evaluation", device=device, config=config)


def _rollout(out: Path, device: Literal["cpu", "cuda", "mps"] | None) -> Path:
    from genie.generate import generate

    film = out / "rollout.gif"
    return generate(out, frames=ROLLOUT_FRAMES, out=film, scale=SCALE, device=device)[0]


def _serve(out: Path, port: int, device: str | None) -> None:
    from genie.serving.app import serve

    try:
        serve(out, port=port, device=device)
    except UserError as error:
        if port == 0 or not str(error).startswith("port"):
            raise
        warnings.warn(f"{error}; taking a free port", stacklevel=2)
        serve(out, port=0, device=device)
