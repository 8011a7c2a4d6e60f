"""Trains the action classifier of a store with the true actions of its training episodes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genie.core.config import UserError, require
from genie.core.progress import Tick, ignore_tick
from genie.data.clips import ClipBatches
from genie.data.labelled import HELD_OUT_FRACTION, judged_windows, labelled_batches
from genie.models.action_classifier import ActionClassifier
from genie.models.inverse_dynamics import (
    LEARNING_RATE,
    WARMUP,
    WEIGHT_DECAY,
    InverseDynamics,
    encoder_parameters,
    fit_once,
    width_for,
)

if TYPE_CHECKING:
    from genie.data.store import ClipStore

SPLIT = "train"
"""Never the one that is evaluated."""
BATCH, WINDOW = 16, 5
EVALUATION_CLIPS, EVALUATION_FRAMES = 256, 17
VERSION = 1


def train_inverse_dynamics(
    store: ClipStore,
    *,
    steps: int,
    seed: int = 0,
    parameters: int = 0,
    future_frames: bool = True,
    device: str | torch.device = "cpu",
    on_step: Tick = ignore_tick,
) -> InverseDynamics:
    """Trains the network on labelled training steps, or loads the one trained before.

    It is cached in the store's `derived` folder by its settings; a store that cannot be written to
    stays as it is.

    Args:
        store: frames and true actions.
        steps: optimizer steps, each of 64 transitions.
        seed: of weights, batches and the episodes held back.
        parameters: about how many weights it should have, such as `encoder_parameters`.
        future_frames: whether it sees the frame that an action led to.
        device: where to train.
        on_step: called after every step.

    Returns:
        The network, in evaluation mode.

    Raises:
        UserError: no true action of the training split is known.
    """
    labels = store.labels()
    if labels is None:
        raise UserError("this store has no true actions; record the videos with sidecars")
    actions = len(store.action_names or ()) or int(labels.max()) + 1
    require(actions > 0, "no true action of this store is known")
    settings = {
        "version": VERSION, "split": SPLIT, "steps": steps, "seed": seed, "actions": actions,
        "width": width_for(parameters, actions), "rates": [LEARNING_RATE, WEIGHT_DECAY, WARMUP],
        "batch": [BATCH, WINDOW], "held_back": HELD_OUT_FRACTION, "ahead": future_frames,
    }  # fmt: skip
    devices = [device] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(seed)
        network = InverseDynamics(actions, settings["width"], future_frames).to(device)
        batches = labelled_batches(store, SPLIT, window=WINDOW, batch=BATCH, steps=steps, seed=seed)
        fit_once(network, batches, steps, _cache_path(store, settings, labels), on_step)
    return network.eval().requires_grad_(False)


def _cache_path(store: ClipStore, settings: dict[str, Any], labels: np.ndarray) -> Path | None:
    table = Path(store.path) / "store.json"
    if not table.is_file():
        return None
    sha = hashlib.sha256(json.dumps(settings).encode())
    sha.update(table.read_bytes())
    sha.update(np.ascontiguousarray(labels).tobytes())
    return table.parent / "derived" / f"inverse-dynamics-{sha.hexdigest()[:12]}.safetensors"


def train_action_classifier(
    store: ClipStore,
    actions: torch.nn.Module,
    *,
    steps: int,
    seed: int,
    device: str | torch.device,
    on_step: Tick = ignore_tick,
) -> ActionClassifier:
    """Trains both networks on training episodes; merges actions by those they were not trained on.

    Args:
        store: frames and true actions.
        actions: the latent action model, whose encoder says how large the network should be.
        steps: of training.
        seed: of the training.
        device: where to train and read.
        on_step: called after every step of training, of which there are twice `steps`.

    Raises:
        UserError: no true action of the training split is known, or of the episodes to judge by.
    """
    parameters = encoder_parameters(actions)
    settings = {"steps": steps, "seed": seed, "device": device, "on_step": on_step}
    network, past = (
        train_inverse_dynamics(store, parameters=parameters, future_frames=ahead, **settings)
        for ahead in (True, False)
    )
    logits, true = _evaluation_logits(network, store, seed)
    require(len(true) > 0, "no true action is known in the training episodes to judge by")
    names = list(store.action_names or map(str, range(network.to_logits.out_features)))
    made = ActionClassifier.judged(network, past, names, logits, true)
    return replace(made, facts=made.facts | {"encoder_parameters": parameters, "steps": steps})


def _evaluation_logits(
    network: InverseDynamics, store: ClipStore, seed: int
) -> tuple[Float[Tensor, "n k"], Int[Tensor, " n"]]:
    """Logits and true actions of steps from the training episodes that were held back."""
    labels, device = store.labels(), network.to_logits.weight.device
    assert labels is not None
    starts, length = judged_windows(
        store, SPLIT, window=EVALUATION_FRAMES, count=EVALUATION_CLIPS, seed=seed
    )
    true = torch.from_numpy(labels[starts[:, None] + np.arange(length - 1)]).long()
    logits = [network(clips).cpu() for clips in ClipBatches(store, starts, length, BATCH, device)]
    known = true >= 0
    return torch.cat(logits)[known], true[known]
