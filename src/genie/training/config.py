"""What a run folder is for: resolved once, written down, and the same when the run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from os.path import normpath
from pathlib import Path
from typing import Any

from genie.core.config import UserError, from_record, require, to_dict
from genie.core.io import replacing
from genie.data.store import ClipStore
from genie.presets import registry
from genie.presets.schedule import ACCELERATORS, Augmentation, StageConfig, TrainConfig
from genie.training import finetune
from genie.training.finetune import BaseWorld
from genie.training.stages.table import TABLE
from genie.world.config import GenieConfig

RECORD = "train.json"
STAGES = tuple(TABLE)
# Settings that do not change what a step computes, so that a run may go on under others.
MAY_CHANGE = (
    "checkpoint_minutes",
    "checkpoint_steps",
    "log_every",
    "loggers",
    "previews_every",
    "diagnostics_every",
    "accelerator",
    "devices",
    "nodes",
    "workers",
    "compile",
)
STAGE_MAY_CHANGE = ("steps", "minutes")
# What a run that was killed before its record was written can have left, and a log of its output.
OWN = (finetune.START, "*.log", "nohup.out")


@dataclass(frozen=True)
class RunConfig:
    """All that decides what a run computes.

    Attributes:
        world: sizes of the models.
        train: schedule of the stages.
        data: fingerprint of the store's episodes.
        base: the world that the run goes on from; None where it starts afresh.
    """

    world: GenieConfig
    train: TrainConfig
    data: str = ""
    base: BaseWorld | None = None

    def trains(self, name: str) -> bool:
        """Whether a stage trains here, or keeps what it has from the base."""
        kept = self.base is not None and TABLE[name].kept(self.base)
        return not kept and not getattr(self.train, name).skipped


def defaults(preset: str | None = None, base: str | None = None) -> RunConfig:
    """Returns the settings that a new run starts from.

    Args:
        preset: fills in what the base does not say; "tiny" when left out.
        base: a world to go on from: its configuration, and unless a preset is named the schedule
            it was trained with, are taken over; the learning rates are lower.

    Raises:
        UserError: no such preset or world.
    """
    chosen = registry.get(preset or "tiny")
    if base is None:
        return RunConfig(chosen.world, chosen.train)
    train = finetune.schedule_of(base, RECORD) if preset is None else None
    return RunConfig(finetune.config_of(base), train or finetune.finetune_schedule(chosen.train))


def resolve(
    folder: Path,
    store: ClipStore,
    *,
    preset: str | None = None,
    world: GenieConfig | None = None,
    train: TrainConfig | None = None,
    stages: Sequence[str] = STAGES,
    minutes: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    base: str | None = None,
    keep_actions: bool | None = None,
) -> RunConfig:
    """Returns the settings of a run, agreed with what the run folder was begun with.

    Arguments are those of `genie.training.pipeline.train`. The frame rate is the store's.

    Raises:
        UserError: an unknown stage, frames of another size, or a base that does not fit. Or joint
            training of latent actions that are continuous at first. Or a folder that was begun with
            other settings, or is full of other things.
    """
    for name in stages:
        require(name in STAGES, f"stages: {name!r} is none of {', '.join(STAGES)}")
    recorded = read(folder)
    if recorded is None:
        _check_folder(folder, store)
    origin = _origin(folder, recorded, base, keep_actions)
    if recorded is not None and preset is None:
        given = recorded
    else:
        start = str(folder / finetune.START) if recorded is not None else None
        given = defaults(preset, (start or origin.name) if origin else None)
    train = train or given.train
    if seed is not None:
        train = replace(train, seed=seed)
    if device is not None:
        require(device in ACCELERATORS, f"device: {device!r} is none of {', '.join(ACCELERATORS)}")
        train = replace(train, accelerator=device)  # type: ignore[arg-type]
    if minutes is not None:
        shared = [name for name in stages if not (origin and TABLE[name].kept(origin))]
        train = share_minutes(train, shared, minutes)
    settings = RunConfig(
        replace(world or given.world, fps=float(store.fps)), train, fingerprint_of(store), origin
    )
    if origin is not None and recorded is None:
        _check_base(origin, settings, stages)
    _check_size(store, settings)
    _check_budgets(settings, stages)
    require(
        train.joint or any(settings.trains(name) for name in stages),
        "stages: nothing is left to train; latent actions are kept (add --keep_actions false), or "
        "no stage has steps or minutes",
    )
    require(
        not (origin and origin.keep_actions and train.joint),
        "train.joint: joint training trains the latent actions; add --keep_actions false, or "
        "set train.joint to false",
    )
    require(
        not (train.joint and settings.world.actions.continuous_fraction),
        "train.joint: the dynamics would learn from actions whose codes have not been placed; "
        "set actions.continuous_fraction to 0",
    )
    require(
        not (train.joint and train.augmentation != Augmentation()),
        "train.augmentation: joint training reads frames beside tokens that were computed from "
        "the videos as they are, and changed frames would not fit them; leave augmentation out, or "
        "set train.joint to false",
    )
    if recorded is not None:
        _check_unchanged(folder, recorded, settings)
    return settings


def untrained(folder: Path) -> list[str]:
    """Returns the stages of a run folder that have still to be trained."""
    run = read(folder)
    if run is None:
        return []
    return [
        name
        for name, stage in TABLE.items()
        if run.base is None
        and run.trains(name)
        and not stage.joined(run.train)
        and not (folder / "checkpoints" / f"{name}.ckpt").exists()
    ]


def read(folder: Path) -> RunConfig | None:
    """Returns what a run folder was begun with, None in a new one."""
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        return from_record(RunConfig, json.loads(path.read_text()))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: not readable as JSON ({error}); train into another folder"
        ) from None
    except UserError as error:
        raise UserError(f"{path}: {error}; was it written by another version?") from None


def write(folder: Path, settings: RunConfig) -> None:
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
    them have minutes. Stages without a budget get a share only where none of `stages` has one. With
    joint training the dynamics take the share of the actions as well.
    """
    require(minutes > 0, f"minutes: {minutes}, must be above 0")
    named = [name for name in STAGES if name in stages and not TABLE[name].joined(train)]
    run = [name for name in named if not getattr(train, name).skipped] or named
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


def _check_folder(folder: Path, store: ClipStore) -> None:
    """A new run takes an empty folder, or one around its own store, as `genie demo` makes it."""
    require(not folder.exists() or folder.is_dir(), f"{folder}: is a file; choose another --out")
    around = [folder / part for part in _parts_inside(folder, store.path)]
    strange = sorted(
        path.name
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path not in around and not any(fnmatch(path.name, own) for own in (".*", *OWN))
    )
    more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
    require(
        not strange,
        f"{folder}: holds other things already ({', '.join(strange[:3])}{more}) and no {RECORD} of "
        "a run that could go on; choose another --out, such as a folder that is not there yet",
    )


def _parts_inside(folder: Path, path: Path) -> tuple[str, ...]:
    """First part of a path below a folder, if it lies there."""
    try:
        return path.resolve().relative_to(folder.resolve()).parts[:1]
    except ValueError:
        return ()


def _origin(
    folder: Path, recorded: RunConfig | None, base: str | None, keep_actions: bool | None
) -> BaseWorld | None:
    before = recorded.base if recorded is not None else None
    if before is None and base is None:
        require(
            keep_actions is None, "keep_actions: a new world has no actions to keep; add --from"
        )
        return None
    if recorded is None:
        assert base is not None
        same = Path(base).is_dir() and Path(base).resolve() == folder.resolve()
        require(not same, f"{folder}: is the world to go on from; train into another folder")
        return finetune.open_base_world(base, keep_actions is not False)
    if before is None or (base is not None and normpath(base) != normpath(before.name)):
        begun = "a new world" if before is None else f"the world {before.name}"
        raise UserError(
            f"{folder} was begun from {begun}, not from {base}; train into another folder"
        )
    require(
        keep_actions in (None, before.keep_actions),
        f"keep_actions: {folder} was begun with {str(before.keep_actions).lower()}; train into "
        "another folder",
    )
    return before


def _check_base(base: BaseWorld, settings: RunConfig, stages: Sequence[str]) -> None:
    old = finetune.config_of(base.name)
    finetune.check_fits(base.name, old, settings.world)
    codes = settings.world.tokenizer.quantizer.codes
    wider = codes > old.tokenizer.quantizer.codes
    require(
        not wider or ("tokenizer" in stages and settings.trains("tokenizer")),
        f"tokenizer.quantizer.codes: {codes} are more than the world {base.name} has, and the new "
        "ones mean nothing before the tokenizer has trained; give its stage steps or minutes",
    )


def _check_budgets(settings: RunConfig, stages: Sequence[str]) -> None:
    for name in stages:
        unused = TABLE[name].joined(settings.train) or TABLE[name].optional
        require(
            settings.base is not None or unused or settings.trains(name),
            f"train.{name}: set steps or minutes, both are 0; only with --from, where there "
            "are weights to keep, a stage can be left out",
        )


def _check_size(store: ClipStore, settings: RunConfig) -> None:
    world = settings.world
    if (store.height, store.width) == (world.height, world.width):
        return
    differ = (
        f"{store.path}: frames of {store.width}x{store.height}, but the world has "
        f"{world.width}x{world.height}; "
    )
    size = f"--height {world.height} --width {world.width}"
    if settings.base is not None:
        raise UserError(f"{differ}make another store: genie prepare VIDEOS --out DATA {size}")
    raise UserError(
        f"{differ}prepare the videos with {size}, or train with --height {store.height} "
        f"--width {store.width}"
    )


def _check_unchanged(folder: Path, recorded: RunConfig, settings: RunConfig) -> None:
    if recorded.data != settings.data:
        raise UserError(
            f"{folder} was begun on other data; name the same store, or train into another folder"
        )
    later = [
        name
        for name, stage in TABLE.items()
        if stage.optional and not (folder / "checkpoints" / f"{name}.ckpt").exists()
    ]
    before, now = _fixed_settings(recorded, later), _fixed_settings(settings, later)
    different = [key for key in before | now if before.get(key) != now.get(key)]
    if different:
        named = ", ".join(f"{key} {before.get(key)} (now {now.get(key)})" for key in different[:4])
        raise UserError(
            f"{folder} was begun with other settings: {named}; go on with the same ones (they are "
            f"in {RECORD} and taken from there when none are given), or train into another folder"
        )


def _fixed_settings(settings: RunConfig, later: Sequence[str]) -> dict[str, Any]:
    """The settings that must stay, by dotted name; those of stages that come `later` need not."""
    world, train = to_dict(settings.world), to_dict(settings.train)
    del world["sampling"]
    for key in MAY_CHANGE:
        del train[key]
    for name in STAGES:
        for key in STAGE_MAY_CHANGE:
            del train[name][key]
    for name in later:
        del train[name]
    return {**finetune.flat(world, "world."), **finetune.flat(train, "train.")}
