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

import numpy as np
import torch
from torch import Tensor

from genie.core.config import UserError, require, to_dict
from genie.core.io import replacing
from genie.core.progress import Bars, Stopwatch, progress_bars, ticking
from genie.data.images import png
from genie.evaluation.config import EvaluationConfig
from genie.evaluation.metrics import sections
from genie.evaluation.metrics.controllability import ActionFollowing
from genie.evaluation.metrics.external_networks import NetworkFile
from genie.evaluation.metrics.frechet import Extractor, Pixels
from genie.evaluation.playing import FrechetByCondition, RolloutMetrics
from genie.evaluation.protocol.clips import ClipBatches, select_clips
from genie.evaluation.report import figures
from genie.evaluation.report.figures import Figure, read_figure
from genie.evaluation.report.provenance import (
    describe_machine,
    describe_store,
    describe_versions,
    describe_world,
)
from genie.evaluation.report.render import render
from genie.evaluation.report.summary import headlines, markdown
from genie.evaluation.report.versions import VERSION, upgrade
from genie.evaluation.supervised import SupervisedMetrics, action_classifier_for
from genie.world.inputs import device_of

if TYPE_CHECKING:
    from genie.data.store import ClipStore
    from genie.world.genie import Genie
    from genie.world.maskgit import SamplingConfig

PARTS = frozenset(
    [
        "version",
        "date",
        "settings",
        "world",
        "data",
        "machine",
        "versions",
        "tokenizer",
        "latent_actions",
        "dynamics",
        "rollouts",
        "frechet",
        "action_following",
        "long_rollouts",
        "separation",
        "held_actions",
        "supervised",
        "closed_loop",
        "scrolling",
        "coherence",
        "seconds",
        "notes",
        "clips",
        "headlines",
    ]
)
"""What a page shows of a report."""


def evaluate(
    world: Genie | str | Path,
    store: ClipStore | str | Path,
    out: str | Path,
    *,
    quick: bool = False,
    split: str | None = None,
    clips: int | None = None,
    seeds: int | None = None,
    prompt_frames: int | None = None,
    horizon: int | None = None,
    seed: int | None = None,
    batch: int | None = None,
    inverse_dynamics_steps: int | None = None,
    closed_loop_games: int | None = None,
    extractor: str | Path | None = None,
    lpips: str | Path | None = None,
    sampling: SamplingConfig | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
    config: EvaluationConfig | None = None,
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
        split: of the store; "val" when left out.
        clips: how many clips, fewer, with a note, where the store has no more; 512, or 64 if quick.
        seeds: rollouts are played so often, each time with other clips and random numbers; 3, or 1
            if quick.
        prompt_frames: real frames that a rollout starts from; 1 when left out.
        horizon: frames played after them; 16 when left out, and 64 from some of the clips.
        seed: chooses clips, random actions and noise; 0 when left out.
        batch: clips, or players, at once; 16 when left out.
        inverse_dynamics_steps: training of the network that reads true actions off frames; 0 leaves
            out what needs it; 600 when left out.
        closed_loop_games: held-out frames from which the button of each true action is held; 256,
            or 64 if quick.
        extractor: TorchScript file of a network of (b, t, h, w, 3) uint8 clips to features
            (b, d) or (b, n, d), for Fréchet distances; when left out the network
            that reads true actions or, without these, frames of 8x8 pixels.
        lpips: TorchScript file of a network of two batches of (n, h, w, 3) uint8 frames to their
            n distances.
        sampling: how frames are drawn; the world's own way when left out.
        device: where to compute; where the world is when left out.
        progress: show progress bars.
        config: all settings at once, in place of `quick`.

    Returns:
        The report, as in `report.json`.

    Raises:
        UserError: world and store have frames of different sizes, or the split has no clip that
            is long enough, or a file holds no such network; the message names the way out.
    """
    given = {
        "split": split,
        "clips": clips,
        "seeds": seeds,
        "prompt_frames": prompt_frames,
        "horizon": horizon,
        "seed": seed,
        "batch": batch,
        "inverse_dynamics_steps": inverse_dynamics_steps,
        "closed_loop_games": closed_loop_games,
    }
    config = config or (EvaluationConfig.quick() if quick else EvaluationConfig())
    config = replace(config, **{name: value for name, value in given.items() if value is not None})
    world_name, store_name = _name(world, "world"), _name(store, "store")
    world, store = _opened_world(world, device), _opened_store(store)
    _require_same_size(world, store, store_name)
    features = NetworkFile(extractor, world.device) if extractor else None
    distance = NetworkFile(lpips, world.device) if lpips else None
    _try_out(features, distance, world, config)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    bars = progress_bars(progress)
    with _evaluating(world):
        report, shown = _measured(world, store, config, features, distance, sampling, bars)
    about = {
        "version": VERSION,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": asdict(config) | {"sampling": to_dict(sampling or world.config.sampling)},
        "world": describe_world(world, world_name),
        "data": describe_store(store, store_name, config.split),
        "machine": describe_machine(world.device),
        "versions": describe_versions(),
    }
    report = _plain(about | report)
    report["headlines"] = headlines(report)
    report["pictures"] = [
        {"name": picture.name, "kind": picture.kind, "caption": picture.caption}
        for picture in shown
    ]
    _write(report, shown, out)
    return report


def _try_out(
    features: NetworkFile | None,
    distance: NetworkFile | None,
    world: Genie,
    config: EvaluationConfig,
) -> None:
    """Calls networks from files once, so that a wrong one is found before anything is measured."""
    size = (config.clip_frames, world.config.height, world.config.width, 3)
    clips = torch.zeros((2, *size), dtype=torch.uint8, device=world.device)
    if features:
        features.features(clips)
    if distance:
        distance.distance(clips[:, 0], clips[:, 1])


def _measured(
    world: Genie,
    store: ClipStore,
    config: EvaluationConfig,
    extractor: Extractor | None,
    distance: NetworkFile | None,
    sampling: SamplingConfig | None,
    bars: Bars,
) -> tuple[dict[str, Any], list[Figure]]:
    starts = select_clips(store, config.split, config.clip_frames, config.clips, config.seed)
    clips = ClipBatches(store, starts, config.clip_frames, config.batch, world.device)
    seconds, report = Stopwatch(), dict[str, Any]()

    with seconds.part("inverse_dynamics"):
        classifier = action_classifier_for(world, store, config, bars)
    extractor = extractor or (Pixels() if isinstance(classifier, str) else classifier.network)
    player = RolloutMetrics(world, store, config, extractor, distance, sampling, bars)
    labelled = SupervisedMetrics(world, store, config, classifier, sampling, bars)
    following = labelled.following(starts)
    with seconds.part("tokenizer"), bars("Tokenizer", len(clips)) as on_step:
        report["tokenizer"] = sections.tokenizer(world, ticking(clips, on_step), clips.episodes)
    with seconds.part("latent_actions"), bars("Latent actions", len(clips)) as on_step:
        report["latent_actions"] = sections.latent_actions(
            world, ticking(clips, on_step), config.seed
        )
    with seconds.part("dynamics"), bars("Dynamics", len(clips)) as on_step:
        report["dynamics"] = sections.dynamics(world, ticking(clips, on_step), config.seed)
    watched: list[tuple[Tensor, sections.Rollouts]] = []
    spread = FrechetByCondition(extractor, config.prompt_frames)

    def watch(frames: Tensor, played: sections.Rollouts) -> None:
        if not watched:
            watched.append((frames, played))
        if isinstance(following, ActionFollowing):
            following.update(frames, played)
        spread.update(frames, played)

    with seconds.part("rollouts"):
        report["rollouts"] = player.rollouts(config.clips, config.horizon, config.quoted, watch)
    report["frechet"] = spread.compute(config.seed)
    report["action_following"] = (
        {"skipped": following} if isinstance(following, str) else following.compute()
    )
    with seconds.part("long_rollouts"):
        report["long_rollouts"] = player.long_rollouts()
    with seconds.part("separation"):
        report["separation"] = player.separation()
    with seconds.part("held_actions"):
        report["held_actions"], button_pictures = player.held_actions(clips)
    with seconds.part("supervised"):
        report["supervised"] = labelled.supervised_metrics()
    with seconds.part("closed_loop"):
        report["closed_loop"] = labelled.closed_loop()
    with seconds.part("scrolling"):
        report["scrolling"] = labelled.scrolling()
    with seconds.part("coherence"):
        report["coherence"], strips = player.coherence()
    with seconds.part("pictures"):
        shown = _clip_pictures(*watched[0], config, world.config.fps) + button_pictures
        shown += [figures.strip_figure(s.frames, s.times, world.config.fps) for s in strips]
    report["seconds"] = seconds.table()
    report["notes"] = _notes(report, world, store, len(starts), config)
    report["clips"] = len(starts)
    return report, shown


def _clip_pictures(
    frames: Tensor, played: sections.Rollouts, config: EvaluationConfig, fps: float
) -> list[Figure]:
    frames = frames[: config.figure_clips].cpu()
    played = {side: part[: len(frames)] for side, part in played.items()}
    real, prompt = frames[:, config.prompt_frames :], frames[:, config.prompt_frames - 1]
    moving = {
        "real video": real,
        "reconstruction": played["reconstruction"],
        "inferred": played["inferred"],
        "random": played["random"],
    }
    animation = figures.gif(figures.side_by_side(moving), fps)
    caption = (
        "Held-out clips: the real video, its reconstruction, and the world playing on with the "
        "actions inferred from the real video and with random ones."
    )
    shown = [Figure("play", caption, animation, "gif")]
    times = _columns(config.horizon)
    for i in range(len(frames)):
        rows = {side: part[i] for side, part in played.items()}
        sheet = figures.clip_sheet(prompt[i], real[i], rows, times)
        caption = f"Clip {i + 1}, t frames after the prompt."
        shown.append(Figure(f"clip_{i + 1}", caption, png(np.asarray(sheet))))
    return shown


def _columns(horizon: int, most: int = 8) -> list[int]:
    """At most `most` steps from 1 to the horizon, denser at first."""
    spaced = np.geomspace(1, horizon, most).round().astype(int)
    return sorted({int(t) for t in spaced})


def _notes(
    report: dict[str, Any], world: Genie, store: ClipStore, clips: int, config: EvaluationConfig
) -> list[str]:
    notes = []
    if clips < config.clips:
        notes.append(
            f"{config.clips} clips were asked for; the {config.split!r} split has {clips} of "
            f"{config.clip_frames} frames that do not overlap."
        )
    if clips > report["rollouts"]["episodes"] == 1:
        notes.append("All clips are of one episode: the standard error of ΔPSNR is not known.")
    if "skipped" in report["supervised"]:
        notes.append(
            f"Latent actions were not compared with true ones: {report['supervised']['skipped']}"
        )
    why = report["action_following"].get("skipped")
    if why and why != report["supervised"].get("skipped"):
        notes.append(f"Actions were not read back from the picture: {why}")
    real = report["closed_loop"].get("real_steps", config.closed_loop_steps)
    if real < config.closed_loop_steps:
        notes.append(
            f"No player held every action for {config.closed_loop_steps} steps often enough: held "
            f"buttons are compared with real video over {real} steps."
        )
    if abs(store.fps - world.config.fps) > 0.01 * world.config.fps:
        notes.append(
            f"The store has {store.fps:g} frames per second, the world was made for "
            f"{world.config.fps:g}: actions may last longer or shorter than the world learned."
        )
    if "skipped" not in report["long_rollouts"]:
        reached, clips = config.long_horizon, config.seeds * config.long_clips
        if report["long_rollouts"]["clips"] < clips:
            notes.append(
                f"{clips} clips of {config.prompt_frames + reached} frames were asked for; there "
                f"are {report['long_rollouts']['clips']} that do not overlap."
            )
    else:
        reached = config.horizon
    late = [t for t in config.times if t > reached]
    if late:
        named = ", ".join(map(str, late))
        notes.append(f"Rollouts end at t = {reached}; t = {named} left out.")
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
            f"The world draws frames of {width}x{height} pixels, but those of the store {name} "
            f"have "
            f"{store.width}x{store.height}: prepare the videos again with "
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
        read_figure(file, facts["caption"])
        for facts in values.get("pictures", [])
        if (file := path.parent / "pictures" / f"{facts['name']}.{facts['kind']}").is_file()
    ]
    out = Path(out) if out else path.with_name("report.html")
    _write_page(values, shown, out)
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
