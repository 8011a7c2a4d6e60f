"""A supervised inverse-dynamics network: the true action between two frames.

It says what can be read off the picture at all, which bounds what latent actions can tell. It also
reads actions back from generated frames. (Baker et al. 2022, arXiv 2206.11795, label videos with
such a network.) Worlds never see it, nor its labels.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from genie.core.io import replacing
from genie.core.progress import Tick, ignore_tick, ticking

LEARNING_RATE, WEIGHT_DECAY, WARMUP = 2e-3, 1e-2, 0.08
FEATURES = 128
INFERENCE_BATCH = 256
"""Transitions in one forward, so that long games need no more memory than short ones."""
WIDTHS = range(16, 65, 8)


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


def fit(
    network: InverseDynamics,
    batches: Iterable[tuple[UInt8[Tensor, "b t h w 3"], Int[Tensor, "b t-1"]]],
    steps: int,
) -> None:
    """Trains a network.

    Cross-entropy without class weights, so that the softmax is the probability of each action given
    the picture.

    Args:
        network: to train.
        batches: frames and the true actions between them, -1 where unknown; one for each step.
        steps: how many there are.
    """
    device = network.to_logits.weight.device
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(
            (step + 1) / (1 + WARMUP * steps), 0.5 + 0.5 * math.cos(math.pi * step / steps)
        ),
    )
    network.train()
    for frames, true in batches:
        loss = F.cross_entropy(
            network(frames.to(device)).flatten(0, 1), true.to(device).flatten(), ignore_index=-1
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rate.step()


def fit_once(
    network: InverseDynamics,
    batches: Iterable[tuple[UInt8[Tensor, "b t h w 3"], Int[Tensor, "b t-1"]]],
    steps: int,
    path: Path | None,
    on_step: Tick = ignore_tick,
) -> None:
    """Trains a network and keeps its weights, or loads those that were kept.

    Args:
        network: to train.
        batches: as for `fit`; not read where weights were kept.
        steps: the same.
        path: file of the weights; None keeps none. Where it cannot be written none are kept.
        on_step: called after every step, and as often where weights are loaded.
    """
    if path is not None and path.is_file():
        network.load_state_dict(load_file(path))
        for _ in range(steps):
            on_step()
        return
    fit(network, ticking(batches, on_step), steps)
    if path is not None:
        weights = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
        with suppress(OSError, SafetensorError), replacing(path) as part:
            save_file(weights, part)
