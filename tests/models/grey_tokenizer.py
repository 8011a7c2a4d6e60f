"""As little as a tokenizer can be."""

import torch
from einops import reduce, repeat
from torch import nn

from genie.models.backbone import TokenizerBackbone
from genie.models.layers.cache import DecoderCache


class GreyTokenizer(TokenizerBackbone):
    """One of 16 levels of grey for each patch of 8x8: as little as a tokenizer can be."""

    past, can_collapse = 0, False

    def __init__(self):
        super().__init__()
        self.grid, self.tokens_per_frame, self.vocabulary = (2, 2), 4, 16
        self.levels = nn.Parameter(torch.linspace(8, 248, 16))

    def encode(self, frames):
        return (self._grey(frames) / 16).long()

    @torch.no_grad()
    def decode(self, tokens):
        grey = self.levels[tokens].round().to(torch.uint8)
        return repeat(grey, "b t (i j) -> b t (i p) (j q) c", i=2, p=8, q=8, c=3)

    def prefill(self, tokens):
        return DecoderCache((), torch.full((len(tokens),), tokens.shape[1]))

    def decode_step(self, tokens, cache):
        return self.decode(tokens[:, None])[:, 0], cache

    def loss(self, frames, progress=1.0):
        error = (self.levels[self.encode(frames)] - self._grey(frames)).square().mean() / 255**2
        return error, {"psnr": -10 * error.detach().log10()}

    def _grey(self, frames):
        return reduce(frames.float(), "b t (i p) (j q) c -> b t (i j)", "mean", i=2, j=2)
