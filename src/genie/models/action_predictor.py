"""A small network that predicts an action from what a frame shows and from another action."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

HIDDEN = 64
GROUP = 8
"""Channels that are normalised together. A batch of a few labelled steps has no statistics."""


class ActionPredictor(nn.Module):
    """Corrects a table of probabilities by what it sees.

    A convolutional network over one or two frames, to which the given action is added. Its output
    is added to the logarithm of a table, which has a row of probabilities for each given action.
    A new network adds nothing, so it begins as good as the table.

    Args:
        table: (G, K), how likely each of K actions is beside each of G given ones. Without given
            actions it has one row, and `given` of `forward` is zeros.
        frames: how many consecutive frames it sees: 1, or 2 to see what an action led to.
        width: channels of the first layer.
    """

    log_table: Tensor

    def __init__(self, table: Float[Tensor, "g k"], frames: int = 1, width: int = 16):
        super().__init__()
        self.register_buffer("log_table", table.log())
        self.layers = nn.Sequential(
            *_convolution(3 * frames, width, kernel=8, stride=4),
            *_convolution(width, 2 * width, kernel=3, stride=2),
            *_convolution(2 * width, 2 * width, kernel=3, stride=1),
        )
        self.to_hidden = nn.Linear(4 * width + len(table), HIDDEN)
        self.to_logits = nn.Linear(HIDDEN, table.shape[1])
        nn.init.zeros_(self.to_logits.weight)
        nn.init.zeros_(self.to_logits.bias)

    def forward(
        self, frames: UInt8[Tensor, "b t h w 3"], given: Int[Tensor, " b"]
    ) -> Float[Tensor, "b k"]:
        """Returns logits of the action.

        Args:
            frames: the frame that is acted on and, for a network of two, the one it led to.
            given: the given action.
        """
        known = F.one_hot(given, len(self.log_table)).to(self.log_table.dtype)
        return self.log_table[given] + self._correction(self._seen(frames), known)

    def for_all(self, frames: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b g k"]:
        """Returns the logits for each given action; frames are looked at once."""
        known = torch.eye(len(self.log_table)).expand(len(frames), -1, -1)
        seen = self._seen(frames)[:, None].expand(-1, len(self.log_table), -1)
        return self.log_table + self._correction(seen, known)

    def _seen(self, frames: Tensor) -> Tensor:
        pixels = frames.movedim(-1, 2).to(self.log_table.dtype) / 255
        # The second frame enters as a difference, which shows what moved.
        parts = [pixels[:, 0] - 0.5, *pixels.diff(dim=1).unbind(1)]
        x = self.layers(torch.cat(parts, dim=1))
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)

    def _correction(self, seen: Tensor, known: Tensor) -> Tensor:
        return self.to_logits(F.relu(self.to_hidden(torch.cat([seen, known], dim=-1))))


def _convolution(channels: int, out: int, kernel: int, stride: int) -> list[nn.Module]:
    pad = (kernel - 1) // 2
    return [
        nn.Conv2d(channels, out, kernel, stride, pad, bias=False),
        nn.GroupNorm(max(1, out // GROUP), out),
        nn.ReLU(),
    ]
