"""`genie map`: make a mapper for a world, measure it, and save it beside the world."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genie.agents.labelled_steps import (
    BATCH,
    LabelledSteps,
    held_out_split,
    read_steps,
    require_labels,
)
from genie.agents.mapper import FitConfig, Information, fit_mapper
from genie.agents.mapper_report import KINDS, measure_labels, measure_mapper
from genie.core.config import Device, UserError, require
from genie.core.io import replacing
from genie.core.numbers import seed_of
from genie.core.progress import progress_bars
from genie.data.store import ClipStore
from genie.world.action_mapper import FOLDER, Kind, latent_actions_hash
from genie.world.action_names import writable_folder
from genie.world.genie import Genie
from genie.world.hub import world_folder

POOL = 20_000
"""Labelled steps that are read at most: their frames take half a gigabyte."""


@dataclass(frozen=True)
class Result:
    """What `map_actions` made.

    Attributes:
        folder: of the mapper.
        report: its figures, as in `report.json` there.
    """

    folder: Path
    report: dict[str, Any]


def map_actions(
    world: str | Path,
    data: str | Path,
    *,
    labels: int = 500,
    kind: Kind = "network",
    out: str | Path | None = None,
    held_out: int = 4096,
    repeats: int = 5,
    counts: Sequence[int] = (),
    class_weights: float = 0.0,
    seed: int = 0,
    device: Device | None = None,
    progress: bool = True,
) -> Result:
    """Makes a mapper between real and latent actions from labelled steps of the training split.

    Args:
        world: folder of a world, its id on the Hugging Face Hub, or the name of one that comes with
            the package.
        data: clip store whose videos had sidecar files of true actions.
        labels: how many labelled steps the mapper is made from.
        kind: dictionary counts which actions occur together; network also sees the frame.
        out: folder of the mapper; WORLD/mapper when left out, `mappers/NAME` where WORLD is no
            folder.
        held_out: steps of the held-out split that it is measured on, fewer where there are fewer.
        repeats: how often as many labels are sampled anew, for intervals; 0 measures the saved
            mapper alone.
        counts: numbers of labels for which the figures are measured too, such as [50,500,5000].
        class_weights: power of the inverse frequency by which rare actions weigh more in the loss
            of a network; 0 gives every step the same weight, 1 every action.
        seed: determines the choice of labelled steps and the training of a network.
        device: where latent actions are inferred; chosen when left out.
        progress: show progress bars.

    Returns:
        The folder and the figures, as in `report.json`.

    Raises:
        UserError: the store has no true actions or not as many, or frames of another size; or the
            folder cannot be written.
    """
    for number in (labels, *counts):
        require(number >= 1, f"labels: {number}, at least 1 labelled step is needed")
    require(held_out >= 1, f"held_out: {held_out}, at least 1 step is needed")
    require(repeats >= 0, f"repeats: {repeats}, must not be negative")
    seed, folder = seed_of(seed), world_folder(world)
    target = Path(out) if out is not None else _folder_beside(world)
    store = ClipStore.open(data)
    require_labels(store)
    genie = Genie.from_pretrained(folder, device)
    pool, unseen = _read(genie, store, (labels, *counts), held_out, repeats, seed, progress)
    config = FitConfig(class_weights=class_weights)
    steps = pool.first(labels)
    known = Information.of(steps, seed)
    if not known.above_chance:
        warnings.warn(known.warning(labels), stacklevel=2)
    mapper = fit_mapper(steps, kind, latent_actions_hash(genie), seed, config)
    report: dict[str, Any] = {
        "world": Path(world).name,
        "data": Path(data).name,
        "kind": kind,
        "labels": labels,
        "held_out": {"split": held_out_split(store), "steps": len(unseen)},
        "mutual_information": {"found": known.found, "chance_95": known.chance},
        "mapper": measure_mapper(mapper, unseen),
    }
    wanted = sorted({labels, *counts}) if repeats else []
    with progress_bars(progress)("Measuring", len(wanted) * repeats) as tick:
        report["curve"] = [
            measure_labels(pool, unseen, n, repeats, kinds=KINDS, config=config, on_step=tick)
            for n in wanted
        ]
    mapper.save_pretrained(target)
    _write(report, target)
    return Result(target, report)


def _read(
    world: Genie,
    store: ClipStore,
    labels: Sequence[int],
    held_out: int,
    repeats: int,
    seed: int,
    progress: bool,
) -> tuple[LabelledSteps, LabelledSteps]:
    """Returns the steps to sample labels from, and held-out ones."""
    true = require_labels(store)
    there, unseen = (
        int((true[store.frames_in_split(split)] >= 0).sum())
        for split in ("train", held_out_split(store))
    )
    split = held_out_split(store)
    require(unseen > 0, f"{store.path}: no step of the split {split!r} has a label to measure on")
    # Repeats share as few steps as can be, or intervals would be too narrow.
    most = max(max(labels), min(there, POOL, max(labels) * max(1, repeats)))
    sizes = most, min(held_out, unseen)
    with progress_bars(progress)("Latent actions", sum(-(-n // BATCH) for n in sizes)) as tick:
        return (
            read_steps(world, store, "train", sizes[0], seed, tick),
            read_steps(world, store, held_out_split(store), sizes[1], seed, tick),
        )


def _folder_beside(world: str | Path) -> Path:
    own = writable_folder(world)
    return own / FOLDER if own is not None else Path("mappers") / Path(world).name


def _write(report: dict[str, Any], folder: Path) -> None:
    try:
        with replacing(folder / "report.json") as path:
            path.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise UserError(f"cannot write a report to {folder}: {error}") from error
