"""Trains the inverse-dynamics network on the labelled steps of a store, once for each setting.

It is trained with the true actions of the sidecar files, of training episodes only.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from genie.core.config import require
from genie.core.io import replacing
from genie.core.progress import Tick, ignore_tick, ticking
from genie.data.labelled import HELD_OUT_FRACTION, labelled_batches
from genie.models.inverse_dynamics import (
    LEARNING_RATE,
    WARMUP,
    WEIGHT_DECAY,
    InverseDynamics,
    fit,
    width_for,
)

if TYPE_CHECKING:
    from genie.data.store import ClipStore

STEPS = 600
BATCH, WINDOW = 16, 5
VERSION = 1


def train_inverse_dynamics(
    store: ClipStore,
    *,
    split: str = "train",
    steps: int = STEPS,
    seed: int = 0,
    parameters: int = 0,
    future_frames: bool = True,
    device: str | torch.device = "cpu",
    on_step: Tick = ignore_tick,
) -> InverseDynamics:
    """Trains the network on labelled steps of a split, or loads the one trained before.

    A tenth of the episodes is held out (`split_episodes`) to evaluate it. It is cached in the
    store's `derived` folder by its settings; a store that cannot be written to stays as it is.

    Args:
        store: frames and true actions.
        split: of the store; never the one that is evaluated.
        steps: optimizer steps, each of 64 transitions.
        seed: of weights, batches and the episodes held back.
        parameters: about how many weights it should have, such as `encoder_parameters`.
        future_frames: whether it sees the frame that an action led to.
        device: where to train.
        on_step: called after every step.

    Returns:
        The network, in evaluation mode.

    Raises:
        UserError: no true action of the split is known.
    """
    labels = store.labels()
    require(labels is not None, "this store has no true actions; record the videos with sidecars")
    assert labels is not None
    actions = len(store.action_names or ()) or int(labels.max()) + 1
    require(actions > 0, "no true action of this store is known")
    settings = {
        "version": VERSION, "split": split, "steps": steps, "seed": seed, "actions": actions,
        "width": width_for(parameters, actions), "rates": [LEARNING_RATE, WEIGHT_DECAY, WARMUP],
        "batch": [BATCH, WINDOW], "held_back": HELD_OUT_FRACTION, "ahead": future_frames,
    }  # fmt: skip
    devices = [device] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(seed)
        network = InverseDynamics(actions, settings["width"], future_frames)
        kept = _cache_path(store, settings, labels)
        if kept is not None and kept.is_file():
            network.load_state_dict(load_file(kept))
            for _ in range(steps):
                on_step()
        else:
            batches = labelled_batches(
                store, split, window=WINDOW, batch=BATCH, steps=steps, seed=seed
            )
            fit(network.to(device), ticking(batches, on_step), steps)
            if kept is not None:
                _save(network, kept)
    return network.to(device).eval().requires_grad_(False)


def _cache_path(store: ClipStore, settings: dict[str, Any], labels: np.ndarray) -> Path | None:
    table = Path(store.path) / "store.json"
    if not table.is_file():
        return None
    sha = hashlib.sha256(json.dumps(settings).encode())
    sha.update(table.read_bytes())
    sha.update(np.ascontiguousarray(labels).tobytes())
    return table.parent / "derived" / f"inverse-dynamics-{sha.hexdigest()[:12]}.safetensors"


def _save(network: InverseDynamics, path: Path) -> None:
    weights = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    with suppress(OSError, SafetensorError), replacing(path) as part:
        save_file(weights, part)
