"""A supervised inverse-dynamics network: the true action between two frames.

It is trained with the true actions of the sidecar files, of training episodes only. So it says what
can be read off the picture at all, which bounds what latent actions can tell. It also reads actions
back from generated frames. (Baker et al. 2022, arXiv 2206.11795, label videos with such a network.)
Worlds never see it, nor its labels.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from genie.core.config import require
from genie.core.io import replacing
from genie.evaluation.protocol.rollouts import OnStep, ignore_step

if TYPE_CHECKING:
    from genie.data.store import ClipStore, Episode

STEPS = 600
BATCH, WINDOW = 16, 5
LEARNING_RATE, WEIGHT_DECAY, WARMUP = 2e-3, 1e-2, 0.08
FEATURES = 128
INFERENCE_BATCH = 256
"""Transitions in one forward, so that long games need no more memory than short ones."""
WIDTHS = range(16, 65, 8)
HELD_OUT_FRACTION = 0.1
"""Share of the training episodes that the network is not trained on but judged by."""
VERSION = 1


class InverseDynamics(nn.Module):
    """Reads the true action off frames t - 1, t and t + 1.

    A small convolutional network over frame t and the changes before and after it. Where there is
    no frame t - 1 the change before is taken as none; training meets that case too.

    Args:
        actions: K, the number of true actions.
        width: channels of the first layer.
        future_frames: False hides frame t + 1. The network then reads what was visible before the
            action: players hold an action, and an avatar faces its direction.
    """

    def __init__(self, actions: int, width: int = 32, future_frames: bool = True):
        super().__init__()
        self.future_frames = future_frames
        self.layers = nn.Sequential(
            *_convolution(9, width, kernel=8, stride=4),
            *_convolution(width, 2 * width, kernel=3, stride=2),
            *_convolution(2 * width, 2 * width, kernel=3, stride=1),
        )
        self.to_features = nn.Sequential(nn.Linear(4 * width, FEATURES), nn.ReLU())
        self.to_logits = nn.Linear(FEATURES, actions)

    @property
    def name(self) -> str:
        """Names the weights too: what two such networks say cannot be compared."""
        sha = hashlib.sha256()
        for value in self.state_dict().values():
            sha.update(value.cpu().contiguous().numpy().tobytes())
        return f"inverse-dynamics {sha.hexdigest()[:8]}"

    def forward(self, frames: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b t-1 k"]:
        """Logits of the true action of each step between frames."""
        return self.to_logits(self.features(frames))

    def features(self, frames: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b t-1 d"]:
        """What the last but one layer says of each step: D = 128 numbers, none below 0.

        An extractor for distances between sets of videos: it sees what moved and in which
        direction. `flatten(0, 1)` makes of it one row per step.
        """
        now, after = frames[:, :-1], frames[:, 1:]
        before = torch.cat([frames[:, :1], frames[:, :-2]], dim=1)
        steps = torch.cat([before, now, after], dim=-1).flatten(0, 1)
        found = torch.cat([self._features(part) for part in steps.split(INFERENCE_BATCH)])
        return found.unflatten(0, now.shape[:2])

    def _features(self, steps: UInt8[Tensor, "n h w 9"]) -> Float[Tensor, "n d"]:
        pixels = steps.permute(0, 3, 1, 2).to(self.to_logits.weight.dtype) / 255
        before, now, after = pixels.chunk(3, dim=1)
        after = after if self.future_frames else now
        x = self.layers(torch.cat([now - 0.5, now - before, after - now], dim=1))
        return self.to_features(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1))


def _convolution(channels: int, out: int, kernel: int, stride: int) -> list[nn.Module]:
    pad = (kernel - 1) // 2
    return [
        nn.Conv2d(channels, out, kernel, stride, pad, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    ]


def width_for(parameters: int, actions: int) -> int:
    """Returns the width that makes a network of nearest to so many parameters.

    Bounded, so that training takes about as long on every machine and for every world.
    """

    def excess(width: int) -> float:
        with torch.device("meta"):
            network = InverseDynamics(actions, width)
        return abs(count_parameters(network) - parameters)

    return min(WIDTHS, key=excess)


def count_parameters(module: nn.Module) -> int:
    """Returns the number of trained weights."""
    return sum(weight.numel() for weight in module.parameters())


def encoder_parameters(actions: nn.Module) -> int:
    """Returns how many weights a latent action model uses to infer actions: all but the decoder."""
    used = ("encoder", "attend", "to_latent")
    return sum(w.numel() for name, w in actions.named_parameters() if name.startswith(used))


def train_inverse_dynamics(
    store: ClipStore,
    *,
    split: str = "train",
    steps: int = STEPS,
    seed: int = 0,
    parameters: int = 0,
    future_frames: bool = True,
    device: str | torch.device = "cpu",
    on_step: OnStep = ignore_step,
) -> InverseDynamics:
    """Trains the network on labelled steps of a split, or loads the one trained before.

    A tenth of the episodes is held out (`split_episodes`) to evaluate it. Cross-entropy without
    class weights, so that the softmax is the probability of each action given the picture. It is
    cached in the store's `derived` folder by its settings; a store that cannot be written to stays
    as it is.

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
            _train(network.to(device), store, labels, split, steps, seed, on_step)
            if kept is not None:
                _save(network, kept)
    return network.to(device).eval().requires_grad_(False)


def split_episodes(store: ClipStore, split: str, seed: int) -> tuple[list[Episode], list[Episode]]:
    """Returns the episodes of a split to train on and those to judge by, a tenth, at least one.

    A lone episode is both.
    """
    episodes = [e for e in store.episodes if e.split == split and e.length >= 2]
    if len(episodes) < 2:
        return episodes, episodes
    order = np.random.default_rng([seed, 7]).permutation(len(episodes))
    judged = set(order[: max(1, round(HELD_OUT_FRACTION * len(episodes)))].tolist())
    return (
        [e for i, e in enumerate(episodes) if i not in judged],
        [e for i, e in enumerate(episodes) if i in judged],
    )


def _train(
    network: InverseDynamics,
    store: ClipStore,
    labels: np.ndarray,
    split: str,
    steps: int,
    seed: int,
    on_step: OnStep,
) -> None:
    device = network.to_logits.weight.device
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(
            (step + 1) / (1 + WARMUP * steps), 0.5 + 0.5 * math.cos(math.pi * step / steps)
        ),
    )
    network.train()
    for frames, true in _batches(store, labels, split, steps, seed):
        loss = F.cross_entropy(
            network(frames.to(device)).flatten(0, 1), true.to(device).flatten(), ignore_index=-1
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rate.step()
        on_step()


def _batches(
    store: ClipStore, labels: np.ndarray, split: str, steps: int, seed: int
) -> Iterator[tuple[UInt8[Tensor, "b t h w 3"], Int[Tensor, "b t-1"]]]:
    """Windows with at least one known action, drawn anew for every step."""
    episodes, _ = split_episodes(store, split, seed)
    length = min(WINDOW, max((e.length for e in episodes), default=WINDOW))
    spans = [np.arange(e.start, e.start + e.length - length + 1) for e in episodes]
    starts = np.concatenate([np.empty(0, np.int64), *spans])
    offsets = np.arange(length - 1)
    starts = starts[(labels[starts[:, None] + offsets] >= 0).any(axis=1)]
    require(len(starts) > 0, f"no true action of the {split!r} split is known")
    rng = np.random.default_rng([seed, 8])
    for _ in range(steps):
        drawn = rng.choice(starts, BATCH)
        frames = torch.from_numpy(np.array(store.windows(drawn, length)))
        yield frames, torch.from_numpy(labels[drawn[:, None] + offsets]).long()


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
