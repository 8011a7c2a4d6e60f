"""What the studies share: stores of games, worlds trained on them, and results that are kept.

Stores and worlds lie in a folder of work. A row of results is written when it is measured. What is
there is not made again, so the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from _machine import about, as_text
from _stages import begin

import genie
from genie.core.config import overridden
from genie.evaluation.config import EvaluationConfig, SeparationConfig
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.evaluation.metrics.metric import find_metrics
from genie.presets import registry
from genie.world.config import GenieConfig

Row = dict[str, Any]
STAGES = ("tokenizer", "actions", "dynamics")
METRICS = ("tokenizer", "latent_actions", "rollouts", "separation", "supervised")


@dataclass(frozen=True)
class Game:
    """What is recorded, and how.

    Attributes:
        env: as `genie record` names it.
        recording: arguments of `genie.record`.
        side: of the square frames that are prepared, in pixels.
    """

    env: str
    recording: Mapping[str, Any] = field(default_factory=dict)
    side: int = 64


def parser_of(text: str | None, work: str, steps: Sequence[int]) -> argparse.ArgumentParser:
    """The options of every study, with its own defaults."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path(work), help="folder of stores and worlds")
    parser.add_argument("--frames", type=int, default=12_000, help="training frames of a game")
    parser.add_argument("--preset", default="coinrun-tiny")
    parser.add_argument("--steps", type=int, nargs=len(steps), default=list(steps))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=int, default=64, help="held-out clips that are played")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="results; rows that are there are kept")
    parser.add_argument("--plot", type=Path)
    return parser


def store_of(name: str, game: Game, options: argparse.Namespace) -> genie.ClipStore:
    """The store of a game, recorded and prepared unless it is there."""
    store, videos = options.work / "data" / name, options.work / "video" / name
    if not (store / "store.json").exists():
        if not videos.exists():
            _record(game, videos, options.frames)
        genie.prepare(videos, store, height=game.side, width=game.side)
    return genie.ClipStore.open(store)


def _record(game: Game, videos: Path, frames: int) -> None:
    part = videos.with_name(f"{videos.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    settings = {"policy": "mixture", "size": game.side, "num_envs": 16, "val_fraction": 0.25}
    genie.record(game.env, part, frames=frames, **{**settings, **game.recording})
    part.rename(videos)


def train(
    name: str,
    store: genie.ClipStore,
    options: argparse.Namespace,
    *,
    stages: Sequence[str] = STAGES,
    steps: Mapping[str, int] | None = None,
    world: GenieConfig | None = None,
    base: str | None = None,
    earlier: str | None = None,
) -> genie.Genie:
    """A world trained for some steps of each stage.

    Args:
        name: of the run.
        store, options: of the study.
        stages: that are trained.
        steps: by stage; those of the options when left out.
        world: its sizes; the preset's when left out.
        base: world to fine-tune, with latent actions that are placed anew.
        earlier: world that the stages before `stages` are taken from.
    """
    out, preset = options.work / "runs" / name, registry.get(options.preset)
    steps = steps or dict(zip(STAGES, options.steps, strict=True))
    budgets = {stage: {"steps": count, "minutes": 0} for stage, count in steps.items()}
    quiet = {"previews_every": 0, "diagnostics_every": 0}
    schedule = overridden(preset.train, {**budgets, **quiet})
    if earlier:
        begin(out, store, world or preset.world, schedule, stages, options.seed, earlier)
    genie.train(
        store,
        out,
        world=world or (None if base else preset.world),
        train=schedule,
        stages=list(stages),
        seed=options.seed,
        device=options.device,
        base=base,
        keep_actions=None if base is None else False,
    )
    return genie.Genie.from_pretrained(out, device=options.device)


def evaluation_of(
    world: genie.Genie, store: genie.ClipStore, options: argparse.Namespace
) -> Evaluation:
    """What metrics are measured on: held-out clips of nine frames."""
    config = EvaluationConfig(
        clips=options.clips,
        seeds=1,
        horizon=8,
        inverse_dynamics_steps=0,
        separation=SeparationConfig(states=8),
    )
    return Evaluation(world, store, config, metrics=find_metrics())


@torch.no_grad()
def quality(world: genie.Genie, store: genie.ClipStore, options: argparse.Namespace) -> Row:
    """The figures of a world on held-out clips, as `genie evaluate` measures them.

    `delta_psnr` has mean, standard error and interval over episodes. `gain` is the PSNR of rollouts
    over that of copying the prompt, both at t = 4. `information` is in nats.
    """
    evaluation = evaluation_of(world, store, options)
    found: dict[str, Any] = {}
    for key in METRICS:
        try:
            found[key] = evaluation.metrics[key].measure(evaluation)
        except Skipped:
            found[key] = None
    played, rebuilt = found["rollouts"]["at"]["4"], found["tokenizer"]
    psnr = {side: played[side]["psnr_mean_error"] for side in ("inferred", "copy_last_frame")}
    row: Row = {
        "tokenizer": rebuilt["reconstruction"]["psnr_mean_error"],
        "tokenizer_interval": rebuilt["intervals"]["psnr_mean_error"],
        "delta_psnr": played["delta_psnr"],
        "psnr": psnr["inferred"],
        "psnr_interval": played["inferred"]["intervals"]["psnr_mean_error"],
        "copying": psnr["copy_last_frame"],
        "gain": psnr["inferred"] - psnr["copy_last_frame"],
        "perplexity": found["latent_actions"]["perplexity"],
        "separation": found["separation"]["ratio"],
        "separation_chance": found["separation"]["null_95"],
    }
    if (known := found["supervised"]) is not None:
        row["information"] = known["mutual_information"]
        row["information_chance"] = known["chance"]["mutual_information_95"]
        row["true_entropy"] = known["true_entropy"]
    return row


class Results:
    """The rows of a study by name, and the settings that they were made with.

    Args:
        options: of the study; rows of a file that was made with others are refused.
    """

    def __init__(self, options: argparse.Namespace):
        paths = ("json", "plot", "work", "device")
        self.path: Path | None = options.json
        self.settings = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in vars(options).items()
            if key not in paths
        }
        self.rows: dict[str, Row] = {}
        if self.path and self.path.exists():
            kept = json.loads(self.path.read_text())
            if kept["settings"] != self.settings:
                raise SystemExit(f"{self.path}: was made with other settings; name another file")
            self.rows = kept["rows"]

    def row(self, name: str, make: Callable[[], Row]) -> Row:
        """The row of a name, measured and written unless it is there."""
        if name not in self.rows:
            self.rows[name] = _rounded(make()) | {"commit": about()["commit"]}
            self.write()
            print(name, self.rows[name], flush=True)
        return self.rows[name]

    def write(self, **more: Any) -> None:
        """Writes what there is, with more that was made of it."""
        if self.path:
            self.path.write_text(
                as_text({"settings": self.settings, "rows": self.rows, **_rounded(more)})
            )


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value
