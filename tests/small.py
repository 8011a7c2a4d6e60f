"""A world so small that a test can make one, as `GenieConfig` reads it, and one on disk."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
import torch

from genie.data.store import ClipStore, Episode, write_table, zarr_spec
from genie.world.genie import Genie
from genie.world.prompts import save_prompts

STACK = {"layers": 1, "width": 16, "heads": 2, "window": 4}
TINY = {
    "height": 16,
    "width": 16,
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
TEAL = np.full((16, 16, 3), (0, 128, 128), np.uint8)


def save_world(folder: Path, *prompts: np.ndarray, seed: int = 0, **changes: Any) -> Path:
    """Saves a world of random weights with its prompts; `changes` are of `TINY`."""
    torch.manual_seed(seed)
    Genie({**TINY, **changes}).save_pretrained(folder)
    save_prompts(prompts, folder)
    return folder


def save_store(folder: Path, *clips: tuple[str, np.ndarray], fps: float = 10) -> ClipStore:
    """Writes a clip store; each clip is its split and its frames."""
    frames = np.concatenate([clip for _, clip in clips])
    ends = np.cumsum([len(clip) for _, clip in clips])
    episodes = [
        Episode(i, str(i), split, int(end) - len(clip), len(clip), str(i))
        for i, ((split, clip), end) in enumerate(zip(clips, ends, strict=True))
    ]
    height, width = frames.shape[1:3]
    spec = zarr_spec(folder / "frames", height, width)
    array = tensorstore.open(spec, create=True, shape=list(frames.shape)).result()
    array.write(frames).result()
    write_table(folder, height=height, width=width, fps=fps, episodes=episodes, prepared={})
    return ClipStore.open(folder)
