"""What a run folder is for: resolved once, written down, and the same when the run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genie import presets
from genie.config import UserError, from_dict, require, to_dict
from genie.data.store import ClipStore
from genie.files import replacing
from genie.schedule import ACCELERATORS, StageConfig, TrainConfig
from genie.world import GenieConfig

RECORD = "train.json"
STAGES = ("tokenizer", "actions", "dynamics")
# Settings that do not change what a step computes, so that a run may go on under others.
FREE = (
    "checkpoint_minutes",
    "checkpoint_steps",
    "log_every",
    "picture_every",
    "accelerator",
    "devices",
    "workers",
    "compile",
)
FREE_IN_STAGE = ("steps", "minutes")


@dataclass(frozen=True)
class Settings:
    """All that decides what a run computes.

    Attributes:
        world: sizes of the models.
        train: schedule of the stages.
        data: fingerprint of the store's episodes.
    """

    world: GenieConfig
    train: TrainConfig
    data: str = ""


def resolve(
    folder: Path,
    store: ClipStore,
    *,
    preset: str | None = None,
    world: GenieConfig | None = None,
    schedule: TrainConfig | None = None,
    stages: Sequence[str] = STAGES,
    minutes: float | None = None,
    seed: int | None = None,
    device: str | None = None,
) -> Settings:
    """Returns the settings of a run, agreed with what the run folder was begun with.

    Arguments are those of `genie.training.pipeline.train`. The frame rate is the store's.

    Raises:
        UserError: an unknown stage, frames of another size, joint training of latent actions that
            are continuous at first, or a folder begun with other settings.
    """
    for name in stages:
        require(name in STAGES, f"stages: {name!r} is none of {', '.join(STAGES)}")
    recorded = read(folder)
    if recorded is not None and preset is None:
        base = recorded
    else:
        chosen = presets.get(preset or "tiny")
        base = Settings(chosen.world, chosen.train)
    train = schedule or base.train
    if seed is not None:
        train = replace(train, seed=seed)
    if device is not None:
        require(device in ACCELERATORS, f"device: {device!r} is none of {', '.join(ACCELERATORS)}")
        train = replace(train, accelerator=device)  # type: ignore[arg-type]
    if minutes is not None:
        train = share_minutes(train, stages, minutes)
    settings = Settings(
        replace(world or base.world, fps=float(store.fps)), train, fingerprint_of(store)
    )
    _check_size(store, settings.world)
    require(
        not (train.joint and settings.world.actions.continuous_share),
        "schedule.joint: the dynamics would learn from actions whose codes have not been placed; "
        "set actions.continuous_share to 0",
    )
    if recorded is not None:
        _agree(folder, recorded, settings)
    return settings


def read(folder: Path) -> Settings | None:
    """Returns what a run folder was begun with, None in a new one."""
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        return from_dict(Settings, json.loads(path.read_text()))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: not readable as JSON ({error}); train into another folder"
        ) from None
    except UserError as error:
        raise UserError(f"{path}: {error}; was it written by another version?") from None


def write(folder: Path, settings: Settings) -> None:
    """Writes down what the run folder is for.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        with replacing(folder / RECORD) as path:
            path.write_text(json.dumps(to_dict(settings), indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error}); name another folder") from None


def share_minutes(train: TrainConfig, stages: Sequence[str], minutes: float) -> TrainConfig:
    """Returns a schedule whose `stages` take `minutes` together, in place of their own budgets.

    They are shared in proportion to the stages' own minutes, or their own steps where not all of
    them have minutes. With joint training the dynamics take the share of the actions as well.
    """
    require(minutes > 0, f"minutes: {minutes}, must be above 0")
    run = [name for name in STAGES if name in stages and not (train.joint and name == "actions")]
    budgets: dict[str, StageConfig] = {name: getattr(train, name) for name in run}
    unit = "minutes" if all(stage.minutes for stage in budgets.values()) else "steps"
    weights = {name: float(getattr(stage, unit)) for name, stage in budgets.items()}
    if not all(weights.values()):
        weights = dict.fromkeys(run, 1.0)
    total = sum(weights.values())
    changed: dict[str, Any] = {
        name: replace(stage, steps=0, minutes=minutes * weights[name] / total)
        for name, stage in budgets.items()
    }
    return replace(train, **changed)


def fingerprint_of(store: ClipStore) -> str:
    """Returns a fingerprint of the episodes of a store, wherever it lies."""
    rows = [(e.hash, e.split, e.start, e.length) for e in store.episodes]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]


def _check_size(store: ClipStore, world: GenieConfig) -> None:
    if (store.height, store.width) != (world.height, world.width):
        raise UserError(
            f"{store.path}: frames of {store.width}x{store.height}, but the world has "
            f"{world.width}x{world.height}; prepare the videos with --height {world.height} "
            f"--width {world.width}, or train with --height {store.height} --width {store.width}"
        )


def _agree(folder: Path, recorded: Settings, settings: Settings) -> None:
    if recorded.data != settings.data:
        raise UserError(
            f"{folder} was begun on other data; name the same store, or train into another folder"
        )
    before, now = _binding(recorded), _binding(settings)
    different = [key for key in before | now if before.get(key) != now.get(key)]
    if different:
        named = ", ".join(f"{key} {before.get(key)} (now {now.get(key)})" for key in different[:4])
        raise UserError(
            f"{folder} was begun with other settings: {named}; go on with the same ones (they are "
            f"in {RECORD} and taken from there when none are given), or train into another folder"
        )


def _binding(settings: Settings) -> dict[str, Any]:
    """The settings that must stay, by dotted name."""
    world, train = to_dict(settings.world), to_dict(settings.train)
    del world["sampling"]
    for key in FREE:
        del train[key]
    for name in STAGES:
        for key in FREE_IN_STAGE:
            del train[name][key]
    return {**_flat(world, "world."), **_flat(train, "schedule.")}


def _flat(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat
