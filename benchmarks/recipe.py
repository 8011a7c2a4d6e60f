"""Which choice of the recipe makes the better world, in the same minutes of training?

Each question trains one or two stages in several ways, everything else alike, and measures them on
held-out clips. A question about actions, dynamics or drawing needs a world whose other parts are
trained already; "passes", "temperature", "drawing" (both), "guidance", "reencoding" and "level"
train nothing.
"play" compares stores: it trains on each and measures on the held-out levels of all of them.

python benchmarks/recipe.py context --data data/coinrun --base coinrun-tiny --minutes 4 --seeds 0 1
python benchmarks/recipe.py corruption --data data/coinrun --base coinrun-tiny --steps 300
python benchmarks/recipe.py quantizer --data data/coinrun --minutes 4 --json recipe.json
python benchmarks/recipe.py play --data data/random data/mixture --base coinrun-tiny
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from _machine import as_text
from _sizes import PAPER
from _stages import begin

import genie
from genie.core.config import overridden, to_dict
from genie.data.clips import ClipBatches
from genie.evaluation.config import CoherenceConfig, EvaluationConfig
from genie.evaluation.metrics.coherence import measure_coherence
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.evaluation.metrics.metric import find_metrics
from genie.evaluation.metrics.models import (
    measure_dynamics,
    measure_latent_actions,
    measure_tokenizer,
)
from genie.evaluation.metrics.rollouts import measure_rollouts
from genie.evaluation.metrics.supervised import compare_with_true
from genie.models.quantizers.registry import KINDS
from genie.plugins.scrolling import scrolling
from genie.presets import registry
from genie.training.checkpointing import read_checkpoint
from genie.world.config import GenieConfig

DRAWING = ("sampling",)
LEVEL = "level"
"""Corruption level that play tells the dynamics."""
AUGMENTATION = "augmentation"
"""Changes of the clips that are trained on: of the schedule, not of the world."""
CHANGES: dict[str, dict[str, Any]] = {
    "none": {},
    "flip": {"flip_prob": 0.5},
    "colour": {"color_jitter": 0.5},
    "stride": {"max_stride": 3},
    "all": {"flip_prob": 0.5, "color_jitter": 0.5, "max_stride": 3},
}
QUESTIONS: dict[str, tuple[tuple[str, ...], dict[str, dict[str, Any]]]] = {
    "context": (
        ("dynamics",),
        {
            "two streams": {},
            "masked": {"dynamics": {"context": "masked"}},
            "all of the paper's": {"dynamics": PAPER},
        },
    ),
    "conditioning": (
        ("dynamics",),
        {
            kind: {"dynamics": {"action_conditioning": kind}}
            for kind in ("add", "prepend", "both", "modulate")
        },
    ),
    "corruption": (
        ("dynamics",),
        {
            f"{share:.0%}": {"dynamics": {"context_corruption": share}}
            for share in (0.0, 0.05, 0.1, 0.2)
        },
    ),
    "history": (
        ("actions", "dynamics"),
        {f"{n} frames": {"actions": {"decoder": {"window": n}}} for n in (1, 3)},
    ),
    "inertia": (
        ("actions",),
        {f"{count} changes": {"actions": {"num_frame_differences": count}} for count in (1, 2)},
    ),
    "play": (("actions", "dynamics"), {}),  # a variant per store
    AUGMENTATION: (
        ("tokenizer", "actions"),
        {name: {AUGMENTATION: changes} for name, changes in CHANGES.items()},
    ),
    "quantizer": (
        ("tokenizer",),
        {
            f"{kind.upper()} {codes}": {"tokenizer": {"quantizer": {"kind": kind, "codes": codes}}}
            for kind, codes in ((kind, config().codes) for kind, config in KINDS.items())
        },
    ),
    "patch": (
        ("tokenizer",),
        {f"patch {side}": {"tokenizer": {"patch": side}} for side in (4, 8, 16)},
    ),
    "drawing": (
        DRAWING,
        {
            f"{steps} {order} {degree:g}": {
                "sampling": {"steps": steps, "order": order, "temperature": degree}
            }
            for steps in (1, 2, 4, 8)
            for order in ("random", "halton", "confidence")
            for degree in (0.7, 1)
            if steps > 1 or order == "random"
        },
    ),
    "level": (DRAWING, {f"level {level}": {LEVEL: level} for level in range(4)}),
    "temperature": (
        DRAWING,
        {f"{degree:g}": {"sampling": {"temperature": degree}} for degree in (0, 0.5, 0.7, 1, 1.3)},
    ),
    "guidance": (
        DRAWING,
        {f"{strength:g}": {"sampling": {"guidance": strength}} for strength in (0, 0.5, 1, 2, 4)},
    ),
    "reencoding": (
        DRAWING,
        {f"every {n}": {"sampling": {"reencode_every": n}} for n in (0, 1, 4, 16)},
    ),
    "passes": (
        DRAWING,
        {
            f"{steps} passes, {order}": {"sampling": {"steps": steps, "order": order}}
            for steps in (1, 2, 4, 8, 25)
            for order in ("random", "halton", "confidence")
            if steps > 1 or order == "random"  # in one pass there is no order
        },
    ),
}


def variants_of(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The variants of the question that was asked."""
    if options.question == "play":
        return {Path(data).name: {} for data in options.data}
    variants = QUESTIONS[options.question][1]
    return {name: variants[name] for name in options.only or variants}


def starting_config(options: argparse.Namespace) -> GenieConfig:
    """What the variants change: the base's configuration, or the preset's."""
    if options.base:
        return genie.Genie.from_pretrained(options.base, device="cpu").config
    return registry.get(options.preset).world


def trained(
    options: argparse.Namespace, data: str, overrides: dict[str, Any], seed: int, out: Path
) -> genie.Genie:
    """A world with the stages of the question trained in a variant."""
    stages = QUESTIONS[options.question][0]
    preset = registry.get(options.preset)
    sizes = {key: value for key, value in overrides.items() if key != AUGMENTATION}
    world = overridden(starting_config(options), sizes)
    limit = {"steps": options.steps, "minutes": 0 if options.steps else options.minutes}
    changes = {AUGMENTATION: overrides.get(AUGMENTATION, {}), **dict.fromkeys(stages, limit)}
    schedule = overridden(preset.train, changes)
    if options.base:
        store = genie.ClipStore.open(data)
        begin(out, store, world, schedule, stages, seed, options.base)
    genie.train(
        data, out, world=world, train=schedule, stages=list(stages), seed=seed, device="cpu"
    )
    return genie.Genie.from_pretrained(out, device="cpu")


def drawing(options: argparse.Namespace, overrides: dict[str, Any]) -> genie.Genie:
    """The base world, drawing in a variant."""
    world = genie.Genie.from_pretrained(options.base, device="cpu")
    if LEVEL in overrides:
        with torch.no_grad():  # play says level 0: let that say another one
            weight = world.dynamics.embedding.level.weight
            weight[0] = weight[overrides[LEVEL]]
        return world
    world.config = overridden(world.config, overrides)
    return world


def steps_taken(out: Path, stages: tuple[str, ...]) -> dict[str, float]:
    """Optimizer steps of each stage."""
    states = {stage: read_checkpoint(out / "checkpoints" / f"{stage}.ckpt") for stage in stages}
    return {f"{stage}_steps": float(state["step"]) for stage, state in states.items() if state}


@torch.no_grad()
def measured(
    world: genie.Genie,
    store: genie.ClipStore,
    stages: tuple[str, ...],
    options: argparse.Namespace,
) -> dict[str, float]:
    """The figures that a question about some stages is answered by."""
    found: dict[str, float] = {}
    evaluation = _evaluation(world, store, clips=64, horizon=8)
    if "tokenizer" in stages:
        part = measure_tokenizer(evaluation)
        figures = part["reconstruction"]
        found |= {key: figures[key] for key in ("psnr_mean_error", "psnr_moving", "ssim")}
        found["used"] = part["codebook"]["share_used"]
    if "actions" in stages:
        part = measure_latent_actions(evaluation)
        found["perplexity"] = part["perplexity"]
        for side in ("inferred", "random"):
            found[f"moving_{side}"] = part["next_frame"][side]["psnr_moving"]
        found |= _information(world, store, evaluation.clips)
    if "dynamics" in stages:
        sides = measure_dynamics(evaluation)
        for side in ("inferred", "shuffled"):
            found[f"cross_entropy_{side}"] = sides[side]["cross_entropy"]
    if "dynamics" in stages or "sampling" in stages:
        found |= _drawn(world, store, options)
    if stages == ("actions", "dynamics"):
        found |= held(world, store, options.clips)
    if options.long:
        found |= _long(world, store, options.long)
    return found


def _evaluation(world: genie.Genie, store: genie.ClipStore, **settings: Any) -> Evaluation:
    config = EvaluationConfig(inverse_dynamics_steps=0, **settings)
    return Evaluation(world, store, config, metrics=find_metrics())


def _drawn(
    world: genie.Genie, store: genie.ClipStore, options: argparse.Namespace
) -> dict[str, float]:
    evaluation = _evaluation(world, store, clips=options.clips, horizon=options.horizon)
    chosen = evaluation.clips
    times = tuple(t for t in (1, 4, 16, 64) if t <= options.horizon)
    began = time.perf_counter()
    part = measure_rollouts(evaluation, [chosen], times)
    # Two sides are played: with inferred and with random actions.
    played = 2 * options.horizon * len(chosen.starts)
    found = {"ms_per_frame_in_batches": 1e3 * (time.perf_counter() - began) / played}
    for t, sides in part["at"].items():
        found[f"psnr_{t}"] = sides["inferred"]["psnr_mean_error"]
        found[f"copy_{t}"] = sides["copy_last_frame"]["psnr_mean_error"]
    return found | {"delta_psnr_4": part["at"]["4"]["delta_psnr"]["mean"]}


def _information(
    world: genie.Genie, store: genie.ClipStore, clips: ClipBatches
) -> dict[str, float]:
    true = store.labels()
    if true is None:
        return {}
    pressed = np.array(true[clips.starts[:, None] + np.arange(clips.length - 1)])
    latent = torch.cat([world.actions.infer(frames) for frames in clips])
    pressed = torch.from_numpy(pressed).long()
    known = pressed >= 0
    names = list(store.action_names or map(str, range(int(pressed.max()) + 1)))
    part = compare_with_true(latent[known], pressed[known], world.config.num_actions, names, seed=0)
    return {
        "mutual_information": part["mutual_information"],
        "chance": part["chance"]["mutual_information"],
    }


def held(world: genie.Genie, store: genie.ClipStore, games: int) -> dict[str, float]:
    """Closed loop: the share of games that a held button scrolls its way."""
    evaluation = _evaluation(world, store, closed_loop_games=games, action_selection_games=games)
    try:
        part = scrolling(evaluation)
    except Skipped:
        return {}
    return {f"held_{way}": line["share"] for way, line in part["directions"].items()} | {
        f"held_{key}": part["mean"][key] for key in ("chance", "real", "relative")
    }


def _long(world: genie.Genie, store: genie.ClipStore, games: int) -> dict[str, float]:
    """Coherent seconds of games of 15 seconds at 15 frames/s."""
    settings = CoherenceConfig(rollouts=((games, 225),))
    part = measure_coherence(_evaluation(world, store, coherence=settings, batch=games))
    play = part["rollouts"][0]
    ends = {f"ended_{reason}": float(count) for reason, count in play["ended_by"].items()}
    return {"coherent_seconds": play["coherent_seconds"]["mean"]} | ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "question", choices=QUESTIONS, nargs="?", help="none: only say what there is"
    )
    parser.add_argument("--data", nargs="+", help="clip store; several for the question play")
    parser.add_argument("--base", help="world with the other parts")
    parser.add_argument("--preset", default="coinrun-tiny")
    parser.add_argument("--minutes", type=float, default=4, help="of each stage")
    parser.add_argument("--steps", type=int, default=0, help="of each stage, instead of minutes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--clips", type=int, default=64, help="that are played")
    parser.add_argument("--horizon", type=int, default=64, help="steps that are played; 4 or more")
    parser.add_argument("--long", type=int, default=0, help="long games that are played as well")
    parser.add_argument("--only", nargs="+", help="some of the variants")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not options.question:
        parser.print_help()
        return
    if not options.data or (options.question != "play" and len(options.data) > 1):
        parser.error("name a clip store, --data; several for the question play")
    stages, trains = QUESTIONS[options.question][0], QUESTIONS[options.question][0] != DRAWING
    if stages[0] != "tokenizer" and not options.base:
        parser.error(f"{options.question}: name a world with the other parts, --base")
    variants = variants_of(options)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    # Seed by seed, so that a machine that slows down slows all variants.
    for seed in options.seeds if trains else [0]:
        for index, (name, overrides) in enumerate(variants.items()):
            data = options.data[index if options.question == "play" else 0]
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder)
                if trains:
                    world = trained(options, data, overrides, seed, out)
                    row = steps_taken(out, stages)
                else:
                    world, row = drawing(options, overrides), {}
                for data in options.data:
                    figures = measured(world, genie.ClipStore.open(data), stages, options)
                    where = f"{Path(data).name}: " if options.question == "play" else ""
                    row |= {f"{where}{key}": round(value, 4) for key, value in figures.items()}
            rows[name].append(row)
            print(name, row, flush=True)
            if options.json:  # what there is so far, should this be interrupted
                options.json.write_text(as_text(results_of(options, rows)))
    print(as_text(results_of(options, rows)))


def results_of(
    options: argparse.Namespace, rows: dict[str, list[dict[str, float]]]
) -> dict[str, Any]:
    """The settings, every row, and the means of each variant over its seeds."""
    means = {
        name: {key: round(mean(row[key] for row in found), 4) for key in found[0]}
        for name, found in rows.items()
        if found
    }
    settings = {k: v for k, v in vars(options).items() if k not in ("json", "data", "base")}
    settings["data"] = [Path(data).name for data in options.data]
    settings["world"] = to_dict(starting_config(options))
    return {**settings, "means": means, "rows": rows}


if __name__ == "__main__":
    main()
