"""An untrained tokenizer, and clips of noise."""

import torch

from genie.models.layers.transformer import TransformerConfig
from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizer import VideoTokenizer, VideoTokenizerConfig

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
