"""Videos of a moving square, and a world that trains on them in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorstore

from genie.data.store import ClipStore, Episode, write_table, zarr_spec
from genie.models.layers.transformer import TransformerConfig
from genie.models.quantizers.vq import VQConfig
from genie.presets.schedule import StageConfig, TrainConfig
from genie.world.config import GenieConfig

SIDE, LENGTH = 16, 40
MOVES = np.array([[0, 3], [0, -3], [3, 0], [-3, 0]])


def write_store(folder: Path, videos: int = 12) -> ClipStore:
    """Writes a store of videos; the last one is held out."""
    rng = np.random.default_rng(0)
    clips = np.stack([_square(rng) for _ in range(videos)])
    spec = zarr_spec(folder / "frames", SIDE, SIDE)
    array = tensorstore.open(spec, create=True, shape=[videos * LENGTH, SIDE, SIDE, 3]).result()
    array.write(clips.reshape(-1, SIDE, SIDE, 3)).result()
    episodes = [
        Episode(i, str(i), "val" if i == videos - 1 else "train", i * LENGTH, LENGTH, str(i))
        for i in range(videos)
    ]
    write_table(folder, height=SIDE, width=SIDE, fps=10, episodes=episodes, prepared={})
    return ClipStore.open(folder)


def world() -> GenieConfig:
    """Sizes of the models."""
    whole, layers = GenieConfig(), TransformerConfig(layers=2, width=32, heads=2)
    return replace(
        whole,
        height=SIDE,
        width=SIDE,
        num_actions=4,
        tokenizer=replace(
            whole.tokenizer,
            encoder=replace(layers, window=3),
            decoder=replace(layers, window=2),
            quantizer=VQConfig(codes=32, dim=8),
        ),
        actions=replace(
            whole.actions,
            downsample=2,
            max_displacement=1,
            encoder=replace(layers, window=2),
            decoder=replace(layers, window=3),
        ),
        dynamics=replace(whole.dynamics, layers=2, width=32, heads=2, window=4),
        sampling=replace(whole.sampling, steps=2),
    )


def schedule(steps: int, devices: int, **changes: object) -> TrainConfig:
    """So many steps a stage on so many processes, each of which is logged."""
    stage = StageConfig(
        steps=steps, batch_size=8, clip_frames=6, learning_rate=1e-3, warmup_steps=5
    )
    fixed: dict[str, object] = {
        **dict.fromkeys(("tokenizer", "actions", "dynamics"), stage),
        "accelerator": "cpu",
        "devices": devices,
        "loggers": ("csv",),
        "log_every": 1,
        "previews_every": 0,
        "diagnostics_every": 0,
    }
    return TrainConfig(**(fixed | changes))  # type: ignore[arg-type]


def _square(rng: np.random.Generator) -> np.ndarray:
    frames = np.full((LENGTH, SIDE, SIDE, 3), 30, np.uint8)
    place = rng.integers(0, SIDE - 4, 2)
    for frame in frames:
        frame[place[0] : place[0] + 4, place[1] : place[1] + 4] = [220, 120, 40]
        place = np.clip(place + MOVES[rng.integers(4)], 0, SIDE - 4)
    return frames
