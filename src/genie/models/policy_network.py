"""A small residual network that looks at the last frames and rates actions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from genie.core.config import require, require_at_most


@dataclass(frozen=True)
class PolicyNetworkConfig:
    """Size of a policy network.

    Attributes:
        height: of a frame in pixels.
        width: of a frame in pixels.
        frames: how many of the last frames it sees.
        channels: of each block. A block halves height and width.
        hidden: features of a stack of frames.
        latent_actions: A, the latent actions that it rates; 0 for none.
        real_actions: K, the actions of a real game that it rates; 0 for none.
    """

    height: int = 64
    width: int = 64
    frames: int = 4
    channels: tuple[int, ...] = (16, 32, 32)
    hidden: int = 256
    latent_actions: int = 0
    real_actions: int = 0

    def __post_init__(self) -> None:
        """Refuses sizes that no network has."""
        for name in ("height", "width", "frames", "hidden"):
            require(getattr(self, name) >= 1, f"{name}: must be at least 1")
        require(len(self.channels) > 0, "channels: at least one block is needed")
        require(all(1 <= count <= 1024 for count in self.channels), "channels: 1 to 1024 each")
        require(self.latent_actions >= 0, "latent_actions: must not be negative")
        require(self.real_actions >= 0, "real_actions: must not be negative")
        require(self.latent_actions + self.real_actions > 0, "there are no actions to rate")
        most = dict.fromkeys(("height", "width", "hidden", "latent_actions", "real_actions"), 4096)
        require_at_most(self, frames=64, **most)


class PolicyNetwork(nn.Module):
    """Rates latent actions, real actions, or both, from the last frames.

    The residual network of IMPALA (Espeholt et al. 2018, arXiv 1802.01561) without memory, as
    agents of Procgen have it. The newest frame enters as it is and the others as differences, which
    show what moved. Both heads read the same features.

    Args:
        config: its size.
    """

    def __init__(self, config: PolicyNetworkConfig):
        super().__init__()
        self.config = config
        inputs = (3 * config.frames, *config.channels)
        blocks = zip(inputs, config.channels, strict=False)
        self.blocks = nn.Sequential(*(_Block(before, count) for before, count in blocks))
        height, width = config.height, config.width
        for _ in config.channels:
            height, width = (height + 1) // 2, (width + 1) // 2
        self.to_features = nn.Linear(config.channels[-1] * height * width, config.hidden)
        self.to_latent = _head(config.hidden, config.latent_actions)
        self.to_real = _head(config.hidden, config.real_actions)
        for weight in self.blocks.parameters():  # twice as fast on a CPU
            if weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, frames: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b a"]:
        """Returns logits of the latent actions."""
        return self.to_latent(self.features(frames))

    def features(self, frames: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b hidden"]:
        """Returns what both heads read."""
        x = self.blocks(self._inputs(frames))
        return F.relu(self.to_features(F.relu(x).flatten(1)))

    def _inputs(self, frames: Tensor) -> Tensor:
        pixels = frames.to(self.to_features.weight.dtype) / 255
        parts = torch.cat([pixels.diff(dim=1), pixels[:, -1:] - 0.5], dim=1)
        # Channels last in memory, without another copy.
        return parts.permute(0, 2, 3, 1, 4).flatten(3).permute(0, 3, 1, 2)


class _Block(nn.Module):
    def __init__(self, channels: int, out: int):
        super().__init__()
        self.convolution = nn.Conv2d(channels, out, 3, padding=1)
        self.residuals = nn.Sequential(_Residual(out), _Residual(out))

    def forward(self, x: Tensor) -> Tensor:
        return self.residuals(F.max_pool2d(self.convolution(x), 3, stride=2, padding=1))


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


def _head(features: int, actions: int) -> nn.Module:
    """Rates actions alike at first; without any there is nothing to rate."""
    if not actions:
        return nn.Identity()
    head = nn.Linear(features, actions)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head
