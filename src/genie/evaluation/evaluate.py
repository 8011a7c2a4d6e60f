"""`evaluate`: everything about one world on held-out clips, as `report.json` and `report.html`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jinja2 import UndefinedError

from genie.core.config import UserError, require, to_dict
from genie.core.io import replacing
from genie.core.machine import versions
from genie.core.progress import Stopwatch, progress_bars
from genie.evaluation.config import PROTOCOLS, EvaluationConfig, ProtocolName
from genie.evaluation.figures import Figure, read_figure
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.evaluation.metrics.metric import find_metrics, measured
from genie.evaluation.report.provenance import describe_machine, describe_store, describe_world
from genie.evaluation.report.render import markdown, render
from genie.evaluation.report.versions import VERSION, upgrade
from genie.models.external_networks import NetworkFile
from genie.world.inputs import device_of

if TYPE_CHECKING:
    from genie.data.store import ClipStore
    from genie.world.genie import Genie
    from genie.world.maskgit import SamplingConfig

PARTS = frozenset(
    [
        *("version", "date", "settings", "world", "data", "machine", "versions"),
        *("seconds", "notes", "clips", "headlines"),
    ]
)
"""What every report has, beside the sections of its metrics."""


def evaluate(
    world: Genie | str | Path,
    store: ClipStore | str | Path,
    out: str | Path,
    *,
    quick: bool = False,
    protocol: ProtocolName = "genie",
    extractor: str | Path | None = None,
    lpips: str | Path | None = None,
    sampling: SamplingConfig | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
    config: EvaluationConfig | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Measures a world on held-out clips and writes the report.

    `out` gets `report.json`, `report.md` (a table fit for a paper), `report.html` (one file,
    readable without a network) and `pictures/`. Every figure stands beside its baselines. The same
    seed gives the same figures.

    Args:
        world: the world, or its folder.
        store: the clip store, or its folder; frames of the world's size.
        out: folder of the report.
        quick: a smaller protocol that takes a third of the time.
        protocol: `genie` is the full report. `genieredux` is the set-up of arXiv 2409.06445, with
            the figures that were published there: 15 frames are predicted from one.
        extractor: TorchScript file of a network for Fréchet distances. It makes features (b, d) or
            (b, n, d) of uint8 clips (b, t, h, w, 3). When left out, the network that reads true
            actions or, without these, frames of 8x8 pixels.
        lpips: TorchScript file of a network of two batches of (n, h, w, 3) uint8 frames to their
            n distances.
        sampling: settings of MaskGIT; those of the world when left out.
        device: where to compute; where the world is when left out.
        progress: show progress bars.
        config: all settings at once, in place of `quick`.
        settings: fields of `EvaluationConfig`, such as `clips=64`; None takes that of the protocol.

    Returns:
        The report, as in `report.json`.

    Raises:
        UserError: world and store have frames of different sizes, the split has no clip that is
            long enough, or a file holds no such network. The message says what to do.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    config = config or (EvaluationConfig.quick() if quick else EvaluationConfig())
    fixed = PROTOCOLS[protocol]
    for name in fixed.keys() & given.keys():
        raise UserError(f"{name}: the protocol {protocol} has {fixed[name]}; leave it out")
    config = replace(config, **given, **fixed)
    world_name, store_name = _name(world, "world"), _name(store, "store")
    world, store = _opened_world(world, device), _opened_store(store)
    _require_same_size(world, store, store_name)
    features, distance = _networks(extractor, lpips, world, config.clip_frames)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    bars = progress_bars(progress)
    metrics = {key: metric for key, metric in find_metrics().items() if metric.protocol == protocol}
    evaluation = Evaluation(world, store, config, sampling, bars, features, distance, metrics)
    with _evaluating(world):
        sections = _measure(evaluation)
    about = {
        "version": VERSION,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": asdict(config)
        | {"protocol": protocol, "sampling": to_dict(sampling or world.config.sampling)},
        "world": describe_world(world, world_name),
        "data": describe_store(store, store_name, config.split),
        "machine": describe_machine(world.device),
        "versions": versions("torch", "numpy"),
    }
    report = _plain(about | sections)
    report["headlines"] = [
        line
        for metric, section in measured(report).values()
        for line in metric.headlines_of(section)
    ]
    report["pictures"] = [
        {key: getattr(figure, key) for key in ("name", "kind", "caption", "section")}
        for figure in evaluation.figures
    ]
    _write(report, evaluation.figures, out)
    return report


def _networks(
    extractor: str | Path | None, lpips: str | Path | None, world: Genie, frames: int
) -> tuple[NetworkFile | None, NetworkFile | None]:
    """Networks from files, called once, so that a wrong one is found before all else."""
    size = (2, frames, world.config.height, world.config.width, 3)
    clips = torch.zeros(size, dtype=torch.uint8, device=world.device)
    features, distance = (
        NetworkFile(path, world.device) if path else None for path in (extractor, lpips)
    )
    if features:
        features.features(clips)
    if distance:
        distance.distance(clips[:, 0], clips[:, 1])
    return features, distance


def _measure(evaluation: Evaluation) -> dict[str, Any]:
    """The sections of all metrics, in the order of the page, with what they took and notes."""
    metrics, seconds = evaluation.metrics, Stopwatch()
    sections: dict[str, Any] = dict.fromkeys(metrics)
    # Those that look at rollouts come after the rollouts.
    for key in sorted(metrics, key=lambda key: metrics[key].rollout_measure is not None):
        with seconds.part(key):
            try:
                sections[key] = metrics[key].measure(evaluation)
            except Skipped as reason:
                sections[key] = {"skipped": str(reason)}
    return sections | {
        "seconds": seconds.table(),
        "notes": _notes(sections, evaluation),
        "clips": len(evaluation.clips.starts),
    }


def _notes(sections: dict[str, Any], evaluation: Evaluation) -> list[str]:
    notes, told = _clip_notes(evaluation), set[str]()
    for key, metric in evaluation.metrics.items():
        reason = sections[key].get("skipped")
        if reason and metric.when_skipped and reason not in told:
            notes.append(f"{metric.when_skipped}: {reason}")
            told.add(reason)
        notes += metric.notes(evaluation, sections[key])
    return notes


def _clip_notes(evaluation: Evaluation) -> list[str]:
    config, clips, notes = evaluation.config, len(evaluation.clips.starts), []
    asked, made = evaluation.store.fps, evaluation.world.config.fps
    if clips < config.clips:
        notes.append(
            f"{config.clips} clips were asked for; the {config.split!r} split has {clips} of "
            f"{config.clip_frames} frames that do not overlap."
        )
    if abs(asked - made) > 0.01 * made:
        notes.append(
            f"The store has {asked:g} frames per second, the world was made for {made:g}: actions "
            "may last longer or shorter than the world learned."
        )
    return notes


def _name(source: Any, fallback: str) -> str:
    path = source if isinstance(source, str | Path) else getattr(source, "path", None)
    return Path(path).name or str(path) if path else fallback


def _opened_world(world: Genie | str | Path, device: str | torch.device | None) -> Genie:
    if isinstance(world, str | Path):
        from genie.world.genie import Genie

        return Genie.from_pretrained(world, device=device)
    return world.to(device_of(device)) if device is not None else world


def _opened_store(store: ClipStore | str | Path) -> ClipStore:
    if isinstance(store, str | Path):
        from genie.data.store import ClipStore

        return ClipStore.open(store)
    return store


def _require_same_size(world: Genie, store: ClipStore, name: str) -> None:
    height, width = world.config.height, world.config.width
    if (store.height, store.width) != (height, width):
        raise UserError(
            f"The world has frames of {width}x{height} pixels, but those of the store {name} "
            f"have {store.width}x{store.height}: prepare the videos again with "
            f"`genie prepare VIDEOS --out STORE --height {height} --width {width}`."
        )


@contextmanager
def _evaluating(world: Genie) -> Iterator[None]:
    """Switches to evaluation without gradients, and back to what it was."""
    modes = [(module, module.training) for module in world.modules()]
    world.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def write_page_again(report: str | Path, out: str | Path | None = None) -> Path:
    """Writes the page of a report again, from its figures.

    Args:
        report: a `report.json`; its figures are taken, and the images in the folder `pictures`
            beside it, where there is one.
        out: the file to write; `report.html` beside the figures when left out.

    Returns:
        The file.

    Raises:
        UserError: there is no such file, or it is not a report of this version.
    """
    path = Path(report)
    require(path.is_file(), f"{path}: there is no such report")
    values = _read_report(path)
    shown = [
        read_figure(file, facts["caption"], facts["section"])
        for facts in values.get("pictures", [])
        if (file := path.parent / "pictures" / f"{facts['name']}.{facts['kind']}").is_file()
    ]
    out = Path(out) if out else path.with_name("report.html")
    try:
        _write_page(values, shown, out)
    except UndefinedError as error:
        raise UserError(
            f"{path}: not a report of this version, {error}; measure the world again"
        ) from None
    return out


def _read_report(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not a report, {error}") from None
    report = upgrade(report) if isinstance(report, dict) else {}
    missing = PARTS - set(report)
    require(
        not missing,
        f"{path}: not a report of this version, which has {', '.join(sorted(missing))}; "
        "measure the world again",
    )
    return report


def _write_page(report: dict[str, Any], shown: list[Figure], path: Path) -> None:
    with replacing(path) as part:
        part.write_text(render(report, shown), "utf-8")


def _write(report: dict[str, Any], shown: list[Figure], out: Path) -> None:
    for picture in shown:
        with replacing(out / "pictures" / f"{picture.name}.{picture.kind}") as part:
            part.write_bytes(picture.data)
    _write_page(report, shown, out / "report.html")
    with replacing(out / "report.md") as part:
        part.write_text(markdown({report["world"]["name"]: report}), "utf-8")
    with replacing(out / "report.json") as part:
        text = json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False)
        part.write_text(text + "\n", "utf-8")


def _plain(value: Any) -> Any:
    """What JSON can hold: lists for tuples, None for NaN and infinity."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
