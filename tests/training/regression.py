"""A toy that a stage trains in a second: the sum of its inputs, without a pixel."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from genie.presets.schedule import StageConfig


class Regression(nn.Module):
    """Learns the sum of its inputs through a stack of blocks; noise, a buffer, a frozen part."""

    def __init__(self, noise=0.05):
        super().__init__()
        self.noise = noise
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(8, 1)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.register_buffer("seen", torch.zeros(8))

    def loss(self, x, y, progress=1.0):
        if self.training:
            self.seen.lerp_(x.mean(dim=0), 0.1)
        for block in self.blocks:
            x = torch.tanh(block(x) + self.noise * torch.randn_like(x))
        error = (self.out(self.norm(x)) - y).square().mean()
        return error, {"error": error, "progress": torch.tensor(progress)}


def batches(index, clips=8):
    generator = torch.Generator().manual_seed(index.step)
    x = torch.randn(clips, 8, generator=generator)[index.micro_batch :: index.micro_batches]
    return x, x.sum(dim=1, keepdim=True)


def same_batch(index):
    return batches(replace(index, step=0))


STAGE = StageConfig(steps=12, batch_size=8, learning_rate=1e-2, warmup_steps=2)
