"""What does each variant of Genie give at the same budget as the default?

A variant changes one setting of one stage. That stage is trained anew, and the other models are
those of a trained world. The budget is a number of steps. Beside it stands the time: a variant
whose steps take another time than the default's is trained again with as many steps as fit into
the default's time. Time is that of one processor core, so other jobs of the machine count little.

Each run is one line of JSON. Runs that have a line are left out, so the same command goes on where
it was stopped.

python benchmarks/variants.py --data data/coinrun --base coinrun-tiny --json variants.jsonl
python benchmarks/variants.py --data data/coinrun --base coinrun-tiny --stages dynamics --steps 3000
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from _machine import about
from _sizes import PAPER
from recipe import held, measured

import genie
from genie.core.config import overridden
from genie.data.sampler import BatchIndex
from genie.presets import registry
from genie.presets.schedule import StageConfig
from genie.training.batches import FrameBatches, ReadBatch, TokenBatches
from genie.training.optimizers import build_optimizer, set_learning_rate
from genie.training.stages.table import TABLE
from genie.training.token_cache import precompute_actions, precompute_tokens
from genie.world.config import GenieConfig

SAME_TIME = 1.1
"""Up to this ratio of times per step, equal steps are equal time."""


@dataclass(frozen=True)
class Variant:
    """One setting of one stage.

    Attributes:
        stage: that is trained.
        world: changes of the world's configuration.
        balanced_actions: as of `TrainConfig`.
    """

    stage: str
    world: dict[str, Any] = field(default_factory=dict)
    balanced_actions: float = 0.0


def _tokenizer(**changes: Any) -> Variant:
    return Variant("tokenizer", {"tokenizer": changes})


def _actions(**changes: Any) -> Variant:
    return Variant("actions", {"actions": changes})


def _dynamics(**changes: Any) -> Variant:
    return Variant("dynamics", {"dynamics": changes})


ALONE = {"layers": 2, "width": 96, "heads": 3, "window": 2, "spatial_attention": True}
"""Layers of the action models that have no sizes in the preset."""
OF_TOKENS = {"downsample": 1, "patch": 8, "encoder": ALONE, "decoder": ALONE}

VARIANTS = {
    "tokenizer: default": _tokenizer(),
    "conv": _tokenizer(backbone="conv", channels=32),
    "conv3d": _tokenizer(backbone="conv3d", channels=24, attention={"layers": 1, "width": 96}),
    "hierarchical": _tokenizer(backbone="hierarchical", patch=8, channels=32),
    "VQ": _tokenizer(quantizer={"kind": "vq", "codes": 1024}),
    "BSQ": _tokenizer(quantizer={"kind": "bsq", "codes": 1024}),
    "LFQ": _tokenizer(quantizer={"kind": "lfq", "codes": 1024}),
    "LFQ, 2 codebooks": _tokenizer(quantizer={"kind": "lfq", "codes": 1024, "codebooks": 2}),
    "FSQ, 2 codebooks": _tokenizer(quantizer={"kind": "fsq", "codes": 4096, "codebooks": 2}),
    "adversarial": _tokenizer(extra_losses={"adversarial_weight": 0.1}),
    "perceptual": _tokenizer(extra_losses={"perceptual_weight": 0.1}),
    "optical flow": _tokenizer(extra_losses={"flow_weight": 0.1}),
    "temporal": _tokenizer(extra_losses={"temporal_weight": 0.5}),
    "actions: default": _actions(),
    "pixels": _actions(kind="pixels", patch=4, encoder=ALONE, decoder=ALONE),
    "tokens": _actions(kind="tokens", **OF_TOKENS),
    "differences of tokens": _actions(kind="tokens", difference=True, **OF_TOKENS),
    "pair": _actions(kind="pair", channels=32),
    "LFQ of actions": _actions(continuous_fraction=0.0, lfq_codebooks=1),
    "LFQ of actions, 3 codebooks": _actions(continuous_fraction=0.0, lfq_codebooks=3),
    "codes from the first step": _actions(continuous_fraction=0.0),
    "entropy": _actions(continuous_fraction=0.0, entropy_weight=0.1),
    "smoothness": _actions(smoothness_weight=0.05),
    "consistency": _actions(consistency_weight=0.05),
    "noise on codes": _actions(embedding_noise=0.2),
    "dynamics: default": _dynamics(),
    "modulate": _dynamics(action_conditioning="modulate"),
    "add": _dynamics(action_conditioning="add"),
    "prepend": _dynamics(action_conditioning="prepend"),
    "multi-scale": _dynamics(multiscale_weight=1.0),
    "diversity": _dynamics(diversity_weight=1.0),
    "balanced actions": Variant("dynamics", balanced_actions=1.0),
    "masked context": _dynamics(context="masked"),
    "the paper's dynamics": _dynamics(**PAPER),
}


def config_of(variant: Variant, base: GenieConfig) -> GenieConfig:
    """The world's configuration in a variant."""
    return overridden(base, variant.world)


def world_of(variant: Variant, base: genie.Genie, seed: int) -> genie.Genie:
    """A world whose stage is new, with the other models of the base."""
    torch.manual_seed(seed)
    world = genie.Genie(config_of(variant, base.config))
    for name in ("tokenizer", "actions"):
        if name != variant.stage and not (name == "actions" and variant.stage == "tokenizer"):
            getattr(world, name).load_state_dict(getattr(base, name).state_dict())
    return world.eval()


def batches_of(
    variant: Variant, base: genie.Genie, store: genie.ClipStore, stage: StageConfig
) -> ReadBatch:
    """What the stage trains on."""
    if variant.stage != "dynamics":
        return FrameBatches(store, stage.clip_frames, stage.batch_size)
    episode, prompts = precompute_tokens(store, base.tokenizer, stage.clip_frames, lambda _: None)
    actions = precompute_actions(store, base.actions, lambda _: None)
    return TokenBatches(
        store,
        stage.clip_frames,
        stage.batch_size,
        episode,
        prompts,
        actions,
        balanced_actions=variant.balanced_actions,
    )


def train(
    world: genie.Genie, variant: Variant, read: ReadBatch, stage: StageConfig, seed: int, steps: int
) -> float:
    """Trains the stage; returns the milliseconds of one core that a step took."""
    model = TABLE[variant.stage].model(world, registry.get("coinrun-tiny").train).train()
    optimizer, spent = build_optimizer(model, stage), 0.0
    for step in range(steps):
        batch = read(BatchIndex(seed, step))
        rate = stage.learning_rate * min(1, (step + 1) / stage.warmup_steps)
        set_learning_rate(optimizer, rate * (1 - 0.9 * step / steps))
        began = time.process_time()
        optimizer.zero_grad()
        model.loss(*batch, progress=step / steps)[0].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        spent += time.process_time() - began
    world.eval()
    return 1e3 * spent / steps


def frames_per_second(world: genie.Genie, store: genie.ClipStore, frames: int = 30) -> float:
    """Of one game on one core."""
    state = world.start(store.windows([0], 1)[0, 0])
    for turn in range(frames + 1):
        if turn == 1:
            began = time.process_time()
        _, state = world.step(state, turn % world.config.num_actions)
    return frames / (time.process_time() - began)


def run(name: str, seed: int, steps: int, options: argparse.Namespace) -> dict[str, Any]:
    """Trains and measures a variant."""
    variant, store = VARIANTS[name], genie.ClipStore.open(options.data)
    base = genie.Genie.from_pretrained(options.base, device="cpu")
    stage = getattr(registry.get("coinrun-tiny").train, variant.stage)
    world = world_of(variant, base, seed)
    row = {"ms_per_step": train(
        world, variant, batches_of(variant, base, store, stage), stage, seed, steps
    )}  # fmt: skip
    asked = SimpleNamespace(clips=options.clips, horizon=16, long=0)
    if variant.stage == "dynamics":
        asked.long = options.games
        row |= {"frames_per_second": frames_per_second(world, store)}
        row |= held(world, store, options.clips)
    row |= measured(world, store, (variant.stage,), asked)  # type: ignore[arg-type]
    return {key: round(value, 4) for key, value in row.items()}


def done(path: Path) -> list[dict[str, Any]]:
    """The runs that have a line; one that was cut off does not count."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def steps_in_time(name: str, seed: int, rows: list[dict[str, Any]], steps: int) -> int:
    """Steps that fit into the time of the default's; 0 where equal steps are equal time."""
    default = f"{VARIANTS[name].stage}: default"
    spent = {
        row["variant"]: row["ms_per_step"]
        for row in rows
        if row["seed"] == seed and row["budget"] == "steps"
    }
    if name not in spent or default not in spent:
        return 0
    ratio = spent[name] / spent[default]
    return 0 if 1 / SAME_TIME < ratio < SAME_TIME else max(1, round(steps / ratio))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="clip store with true actions")
    parser.add_argument("--base", default="coinrun-tiny", help="world with the other models")
    parser.add_argument("--steps", type=int, default=1000, help="of the stage that is trained")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--stages", nargs="+", default=["tokenizer", "actions", "dynamics"])
    parser.add_argument("--only", nargs="+", choices=VARIANTS, help="some of the variants")
    parser.add_argument("--budgets", nargs="+", default=["steps", "time"])
    parser.add_argument("--clips", type=int, default=32, help="held-out clips that are measured")
    parser.add_argument("--games", type=int, default=4, help="whose coherent time is measured")
    parser.add_argument("--minutes", type=float, default=0, help="stop after so many of one core")
    parser.add_argument("--json", type=Path, default=Path("variants.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in options.only or VARIANTS if VARIANTS[name].stage in options.stages]
    for budget in options.budgets:
        for seed in options.seeds:
            for name in names:
                if options.minutes and time.process_time() > 60 * options.minutes:
                    return
                run_once(name, seed, budget, options)


def run_once(name: str, seed: int, budget: str, options: argparse.Namespace) -> None:
    """Adds a line for a run, unless there is one or equal steps are equal time."""
    rows, steps = done(options.json), options.steps
    if budget == "time":
        steps = steps_in_time(name, seed, rows, steps)
    key = {"variant": name, "seed": seed, "budget": budget}
    if steps == 0 or any(key.items() <= row.items() for row in rows):
        return
    row = {**key, "stage": VARIANTS[name].stage, "steps": steps, **run(name, seed, steps, options)}
    row |= {name: about()[name] for name in ("commit", "machine")}
    with options.json.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(row, flush=True)


if __name__ == "__main__":
    main()
