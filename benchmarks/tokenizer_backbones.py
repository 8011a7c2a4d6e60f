"""Which network makes the better tokenizer: transformer, convolutions or causal 3-D convolutions?

Each variant of about the same size trains on the same clips in the same order. It is measured on
held-out clips after the same number of steps, and again after the same time. Time is that of one
processor core, so that other jobs of the machine count little.

python benchmarks/tokenizer_backbones.py --data data/coinrun --seeds 0 1 --json backbone.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _machine import as_text

import genie
from genie.core.config import to_dict
from genie.evaluation.config import EvaluationConfig
from genie.evaluation.metrics.context import Evaluation
from genie.evaluation.metrics.metric import find_metrics
from genie.evaluation.metrics.models import measure_tokenizer
from genie.models.layers.transformer import TransformerConfig
from genie.models.quantizers.fsq import FSQConfig
from genie.models.tokenizers.conv import ConvTokenizerConfig
from genie.models.tokenizers.conv3d import Conv3DTokenizerConfig
from genie.models.tokenizers.transformer import VideoTokenizerConfig
from genie.presets import registry
from genie.presets.schedule import StageConfig
from genie.training.optimizers import build_optimizer, set_learning_rate
from genie.world.config import GenieConfig

CODES = FSQConfig(codes=1000)
SEEING_BACK = TransformerConfig(layers=2, width=128, heads=4, window=4)
VARIANTS = {
    "transformer": VideoTokenizerConfig(
        encoder=SEEING_BACK,
        decoder=TransformerConfig(layers=3, width=128, heads=4, window=4),
        quantizer=CODES,
    ),
    "conv": ConvTokenizerConfig(channels=32, quantizer=CODES),
    "conv3d": Conv3DTokenizerConfig(
        channels=24,
        attention=TransformerConfig(layers=1, width=96, heads=4, window=4),
        quantizer=CODES,
    ),
    "transformer of `tiny`": registry.get("tiny").world.tokenizer,
}
STAGE = StageConfig(learning_rate=1e-3, warmup_steps=50, batch_size=4, clip_frames=8)


def starts_of(store: genie.ClipStore, frames: int) -> np.ndarray:
    """Numbers of the frames at which a clip of a training episode can begin."""
    kept = [each for each in store.episodes if each.split == "train" and each.length >= frames]
    return np.concatenate(
        [np.arange(each.start, each.start + each.length - frames + 1) for each in kept]
    )


def core_seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """The shortest time that the processor works on it."""
    spent = []
    for _ in range(repeats + 1):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent[1:])


def measured(world: genie.Genie, store: genie.ClipStore, clips: int) -> dict[str, float]:
    """Figures on held-out clips."""
    world.eval()
    config = EvaluationConfig(inverse_dynamics_steps=0, clips=clips, horizon=8)
    part = measure_tokenizer(Evaluation(world, store, config, metrics=find_metrics()))
    world.train()
    found = {key: part["reconstruction"][key] for key in ("psnr_mean_error", "psnr_moving")}
    return found | {"used": part["codebook"]["share_used"]}


def speeds(tokenizer: Any, clips: torch.Tensor) -> dict[str, float]:
    """Frames per second of encoding, decoding and decoding frame by frame as in play."""
    tokenizer.eval()
    tokens = tokenizer.encode(clips)
    one = tokens[:1]
    cache = tokenizer.prefill(one[:, :-1])
    frames = clips.shape[0] * clips.shape[1]
    return {
        "encode_fps": frames / core_seconds(lambda: tokenizer.encode(clips)),
        "decode_fps": frames / core_seconds(lambda: tokenizer.decode(tokens)),
        "play_fps": 1 / core_seconds(lambda: tokenizer.decode_step(one[:, -1], cache)),
    }


def run(name: str, seed: int, store: genie.ClipStore, options: argparse.Namespace) -> list[dict]:
    """Trains a variant; a row after `options.steps` steps, and one when the time is over."""
    torch.manual_seed(seed)
    world = genie.Genie(GenieConfig(tokenizer=VARIANTS[name])).train()
    tokenizer, optimizer = world.tokenizer, build_optimizer(world.tokenizer, STAGE)
    starts, rng = starts_of(store, STAGE.clip_frames), np.random.default_rng(seed)
    about = {"parameters": sum(weight.numel() for weight in tokenizer.parameters())}
    rows, spent, step = [], 0.0, 0
    while spent < 60 * options.minutes or step < options.steps:
        chosen = rng.choice(starts, STAGE.batch_size)
        frames = torch.from_numpy(store.windows(chosen.tolist(), STAGE.clip_frames))
        set_learning_rate(optimizer, STAGE.learning_rate * min(1, (step + 1) / STAGE.warmup_steps))
        began = time.process_time()
        optimizer.zero_grad()
        tokenizer.loss(frames)[0].backward()
        torch.nn.utils.clip_grad_norm_(tokenizer.parameters(), 1.0)
        optimizer.step()
        spent += time.process_time() - began
        step += 1
        if step == options.steps:
            rows.append(about | {"steps": step} | measured(world, store, options.clips))
    speed = {"ms_per_step": 1e3 * spent / step, **speeds(tokenizer, frames)}
    figures = measured(world, store, options.clips)
    return [*(row | speed for row in rows), about | {"steps": step} | figures | speed]


def write(path: Path, settings: dict[str, Any], found: dict[str, Any]) -> None:
    """Writes the rows after the same steps and after the same time, each to a file of its own."""
    for side, rows in found.items():
        text = as_text({"settings": settings, "rows": rows})
        path.with_stem(f"{path.stem}-{side}").write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="clip store")
    parser.add_argument("--minutes", type=float, default=2.5, help="of one core, of each variant")
    parser.add_argument("--steps", type=int, default=250, help="after which it is measured too")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--clips", type=int, default=48, help="held-out clips that are measured")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, help="some of the variants")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    store = genie.ClipStore.open(options.data)
    settings = {key: getattr(options, key) for key in ("minutes", "steps", "clips")}
    settings |= {name: to_dict(config) for name, config in VARIANTS.items()}
    found: dict[str, dict[str, list[dict[str, float]]]] = {"steps": {}, "time": {}}
    for seed in options.seeds:
        for name in options.only or VARIANTS:
            rows = run(name, seed, store, options)
            for side, row in zip(("steps", "time"), rows, strict=True):
                rounded = {key: round(value, 3) for key, value in row.items()}
                found[side].setdefault(name, []).append(rounded)
                print(seed, name, side, rounded, flush=True)
            if options.json:  # what there is so far, should this be interrupted
                write(options.json, settings, found)


if __name__ == "__main__":
    main()
