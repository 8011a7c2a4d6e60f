"""What attacks are made on: a toy store, a toy training, a toy world."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from genie.data.store import ClipStore
from genie.data.video import write_video

SIDE = 16
HERE = {"height": 32, "width": 32, "workers": 0, "progress": False}
"""Options of `prepare` for the toy videos."""
STACK = {"layers": 1, "width": 16, "heads": 2, "window": 4}
WORLD = {
    "height": SIDE,
    "width": SIDE,
    "num_actions": 4,
    "tokenizer": {
        "patch": 8,
        "encoder": STACK,
        "decoder": STACK,
        "quantizer": {"codes": 16, "dim": 8},
    },
    "actions": {"patch": 8, "encoder": {**STACK, "window": 2}, "decoder": STACK},
    "dynamics": STACK,
    "sampling": {"steps": 2},
}


def moving_square(frames: int, seed: int, side: int = 32) -> np.ndarray:
    """A bright square that wanders over a dark picture, u8 (T,H,W,3)."""
    dice = np.random.default_rng(seed)
    clip = np.empty((frames, side, side, 3), np.uint8)
    clip[:] = dice.integers(0, 90, 3)
    colour, size = dice.integers(160, 256, 3), side // 4
    y, x = dice.integers(0, side - size, 2)
    for frame in clip:
        y, x = (y + 2) % (side - size), (x + 3) % (side - size)
        frame[y : y + size, x : x + size] = colour
    return clip


def make_videos(folder: Path, count: int, frames: int = 40) -> Path:
    """Writes videos of different content and length."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        clip = moving_square(frames + 3 * (number % 8), number)
        write_video(folder / f"clip-{number:04d}.mp4", clip, 15)
    return folder


def make_store(folder: Path, lengths: Sequence[int] = (40, 33, 30, 20)) -> Path:
    """Writes a store of 16x16 frames without videos; the last episode is held out."""
    import tensorstore

    from genie.data.store import Episode, write_table, zarr_spec

    clips = [moving_square(length, seed, SIDE) for seed, length in enumerate(lengths)]
    ends = np.cumsum(lengths).tolist()
    episodes = [
        Episode(i, f"{i}", "val" if i == len(lengths) - 1 else "train", end - n, n, f"{i}")
        for i, (n, end) in enumerate(zip(lengths, ends, strict=True))
    ]
    spec = zarr_spec(folder / "frames", SIDE, SIDE)
    shape = [ends[-1], SIDE, SIDE, 3]
    tensorstore.open(spec, create=True, shape=shape).result().write(np.concatenate(clips)).result()
    write_table(folder, height=SIDE, width=SIDE, fps=10, episodes=episodes, prepared={})
    return folder


def train_toy(data: Path, out: Path, console: object | None = None, **changes: object) -> None:
    """Trains the toy world in three stages of eight steps; the same call again goes on.

    With sharded weights no stage has Muon. `changes` are of `TrainConfig`.
    """
    import torch
    from rich.console import Console

    from genie.core.config import from_dict
    from genie.presets.schedule import StageConfig, TrainConfig
    from genie.training.pipeline import train
    from genie.world.config import GenieConfig

    torch.set_num_threads(1)
    stage = StageConfig(steps=8, batch_size=4, clip_frames=4, learning_rate=1e-3, warmup_steps=2)
    schedule = TrainConfig(
        tokenizer=stage,
        actions=stage,
        dynamics=stage if changes.get("strategy") == "fsdp" else replace(stage, optimizer="muon"),
        checkpoint_steps=2,
        previews_every=0,
        diagnostics_every=0,
        log_every=4,
        accelerator="cpu",
        **changes,  # type: ignore[arg-type]
    )
    quiet = Console(file=io.StringIO())
    world = from_dict(GenieConfig, WORLD)
    train(ClipStore.open(data), out, world=world, train=schedule, console=console or quiet)


def save_world(folder: Path, seed: int, prompts: int = 2, **changes: object) -> None:
    """Saves a world of random weights, with prompts."""
    import torch

    from genie.world.genie import Genie
    from genie.world.prompts import save_prompts

    torch.manual_seed(seed)
    Genie({**WORLD, **changes}).save_pretrained(folder)
    save_prompts(moving_square(prompts, seed, SIDE), folder)


def digest(folder: Path, *patterns: str) -> str:
    """Returns a hash of names and contents of files; of hidden ones only where they are named."""
    sha = hashlib.sha256()
    for pattern in patterns or ("**/*",):
        for path in sorted(folder.glob(pattern)):
            if path.is_file() and (patterns or not path.name.startswith(".")):
                sha.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
                sha.update(path.read_bytes())
    return sha.hexdigest()
