"""An untrained tokenizer, and clips of noise."""

import torch

from genie.models.layers.transformer import TransformerConfig
from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizers.base import Tokenizer
from genie.models.tokenizers.transformer import VideoTokenizer, VideoTokenizerConfig

LAYERS = TransformerConfig(layers=2, width=32, heads=4, window=4)
CONFIG = VideoTokenizerConfig(
    patch=4, encoder=LAYERS, decoder=LAYERS, quantizer=VQConfig(codes=32, dim=8)
)


def build(config: VideoTokenizerConfig = CONFIG, size: tuple[int, int] = (16, 16)):
    torch.manual_seed(0)
    return VideoTokenizer(config, size)


def clips(count: int = 4, frames: int = 6, size: tuple[int, int] = (16, 16)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, frames, *size, 3), dtype=torch.uint8, generator=generator)


def learned(tokenizer: Tokenizer, steps: int) -> tuple[float, int]:
    """Trains on one batch of two-coloured squares.

    Returns:
        By how many decibels the frames are nearer than their mean is, and the number of codes used.
    """
    colours = torch.randint(0, 2, (2, 3, 4, 4, 1), dtype=torch.uint8) * 200 + 20
    frames = colours.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, -1, -1, -1, 3)
    optimizer = torch.optim.AdamW(tokenizer.train().parameters(), lr=3e-3)
    for _ in range(steps):
        loss, _ = tokenizer.loss(frames)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tokens = tokenizer.eval().encode(frames)
    error = (tokenizer.decode(tokens).float() - frames).square().mean()
    spread = frames.float().var(correction=0)
    return (10 * (spread / error).log10()).item(), len(tokens.unique())
