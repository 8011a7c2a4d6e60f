"""Which choice of the recipe makes the better world, in the same minutes of training?

Each question trains one stage in several ways, everything else alike, and measures it on held-out
clips. A question about the dynamics or about drawing needs a run folder whose other stages are
trained already; the question "passes" trains nothing.

python benchmarks/recipe.py context --data data/coinrun --base runs/coinrun --minutes 4 --seeds 0 1
python benchmarks/recipe.py quantizer --data data/coinrun --minutes 4 --json recipe.json
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from _machine import tell

import genie
from genie import presets
from genie.config import from_dict, to_dict
from genie.evaluation import sections
from genie.evaluation.clips import Clips, choose_clips
from genie.schedule import TrainConfig
from genie.world import GenieConfig

PAPER = {
    "context": "masked", "conditioning": "add", "mask_rate": "uniform", "corruption": 0.0,
    "copying": False, "change_weight": 1.0, "no_effect": 0.0,
}  # fmt: skip
QUESTIONS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "context": (
        "dynamics",
        {"two streams": {}, "masked": {"context": "masked"}, "all of the paper's": PAPER},
    ),
    "conditioning": (
        "dynamics",
        {kind: {"conditioning": kind} for kind in ("add", "prepend", "both")},
    ),
    "corruption": (
        "dynamics",
        {f"{share:.0%}": {"corruption": share} for share in (0.0, 0.05, 0.1, 0.2)},
    ),
    "history": (
        "actions",
        {f"{frames} frames": {"decoder": {"window": frames}} for frames in (1, 3)},
    ),
    "inertia": ("actions", {f"{count} changes": {"changes": count} for count in (1, 2)}),
    "quantizer": (
        "tokenizer",
        {
            "FSQ 1000": {"quantizer": {"kind": "fsq", "codes": 1000}},
            "VQ 1024": {"quantizer": {"kind": "vq", "codes": 1024}},
            "LFQ 1024": {"quantizer": {"kind": "lfq", "codes": 1024}},
        },
    ),
    "patch": ("tokenizer", {f"patch {side}": {"patch": side} for side in (4, 8, 16)}),
    "passes": (
        "sampling",
        {
            f"{steps} passes, {order}": {"steps": steps, "order": order}
            for steps in (1, 2, 4, 8, 25)
            for order in ("random", "halton", "confidence")
            if steps > 1 or order == "random"  # in one pass there is no order
        },
    ),
}


def trained(
    options: argparse.Namespace, stage: str, overrides: dict[str, Any], seed: int, out: Path
) -> genie.Genie:
    """A world with one stage trained in a variant."""
    preset = presets.get(options.preset)
    base = genie.Genie.from_pretrained(options.base).config if options.base else preset.world
    world = from_dict(GenieConfig, presets.merged(to_dict(base), {stage: overrides}))
    one = replace(getattr(preset.train, stage), minutes=options.minutes)
    schedule = from_dict(TrainConfig, to_dict(preset.train) | {stage: to_dict(one)})
    if options.base:
        for file in Path(options.base).glob("checkpoints/*.ckpt"):
            if file.stem != stage:
                (out / "checkpoints").mkdir(parents=True, exist_ok=True)
                shutil.copy(file, out / "checkpoints")
    genie.train(
        options.data, out, world=world, schedule=schedule, stages=[stage], seed=seed, device="cpu"
    )
    return genie.Genie.from_pretrained(out, device="cpu")


def steps_taken(out: Path, stage: str) -> int:
    from genie.training.checkpointing import read_checkpoint

    state = read_checkpoint(out / "checkpoints" / f"{stage}.ckpt")
    return int(state["step"]) if state else 0


@torch.no_grad()
def measured(
    world: genie.Genie, store: genie.ClipStore, stage: str, clips: int, horizon: int
) -> dict[str, float]:
    """The figures that a question about a stage is answered by."""
    length = 9 if stage in ("tokenizer", "actions") else horizon + 1
    starts = choose_clips(store, "val", length, clips, seed=0)
    chosen = Clips(store, starts, length, 16, world.device)
    if stage == "tokenizer":
        part = sections.tokenizer(world, chosen)
        figures = part["reconstruction"]
        keys = ("psnr_mean_error", "psnr_moving", "ssim")
        return {key: figures[key] for key in keys} | {"used": part["codebook"]["share_used"]}
    if stage == "actions":
        part = sections.latent_actions(world, chosen, seed=0)
        moving = {side: part["next_frame"][side]["psnr_moving"] for side in ("inferred", "random")}
        found = {"perplexity": part["perplexity"]} | {f"moving_{k}": v for k, v in moving.items()}
        return found | _information(world, store, chosen)
    began = time.perf_counter()
    times = tuple(t for t in (1, 4, 16, 64) if t <= horizon)
    part = sections.rollouts(world, chosen, 1, times, seed=0)
    drawn = 2 * horizon * len(starts)
    found = {"ms_per_frame_in_batches": 1e3 * (time.perf_counter() - began) / drawn}
    for t, sides in part["at"].items():
        found[f"psnr_{t}"] = sides["inferred"]["psnr_mean_error"]
    found["delta_psnr_4"] = part["at"]["4"]["delta_psnr"]["mean"]
    if stage == "dynamics":
        short = replace(chosen, length=9)
        sides = sections.dynamics(world, short, seed=0)
        for side in ("inferred", "shuffled"):
            found[f"cross_entropy_{side}"] = sides[side]["cross_entropy"]
    return found


def _information(world: genie.Genie, store: genie.ClipStore, clips: Clips) -> dict[str, float]:
    true = store.labels()
    if true is None:
        return {}
    pressed = np.array(true[clips.starts[:, None] + np.arange(clips.length - 1)])
    latent = torch.cat([world.actions.infer(frames) for frames in clips])
    pressed = torch.from_numpy(pressed).long()
    known = pressed >= 0
    names = list(store.action_names or map(str, range(int(pressed.max()) + 1)))
    part = sections.labels(latent[known], pressed[known], world.config.num_actions, names, seed=0)
    return {
        "mutual_information": part["mutual_information"],
        "chance": part["chance"]["mutual_information"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "question", choices=QUESTIONS, nargs="?", help="none: only say what there is"
    )
    parser.add_argument("--data", help="clip store")
    parser.add_argument("--base", help="run folder with the other stages")
    parser.add_argument("--preset", default="coinrun-tiny")
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--horizon", type=int, default=64)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not options.question:
        parser.print_help()
        return
    if not options.data:
        parser.error("name a clip store, --data")
    stage, variants = QUESTIONS[options.question]
    if stage in ("dynamics", "sampling") and not options.base:
        parser.error(f"{options.question}: name a run folder with the other stages, --base")
    store = genie.ClipStore.open(options.data)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    # Seed by seed, so that a machine that slows down slows all variants.
    for seed in [0] if stage == "sampling" else options.seeds:
        for name, overrides in variants.items():
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder)
                if stage == "sampling":
                    world = genie.Genie.from_pretrained(options.base, device="cpu")
                    changed = presets.merged(to_dict(world.config), {"sampling": overrides})
                    world.config = from_dict(GenieConfig, changed)
                    taken = {}
                else:
                    world = trained(options, stage, overrides, seed, out)
                    taken = {"steps": steps_taken(out, stage)}
                figures = measured(world, store, stage, options.clips, options.horizon)
            rows[name].append(taken | {key: round(v, 4) for key, v in figures.items()})
            print(name, rows[name][-1], flush=True)
    means = {
        name: {key: round(mean(row[key] for row in found), 4) for key in found[0]}
        for name, found in rows.items()
    }
    settings = {k: v for k, v in vars(options).items() if k not in ("json", "data", "base")}
    tell({**settings, "threads": torch.get_num_threads(), "means": means, "rows": rows},
         options.json)  # fmt: skip


if __name__ == "__main__":
    main()
