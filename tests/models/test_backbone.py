import pytest
import torch
from einops import reduce, repeat
from torch import nn
from untrained_tokenizer import build, clips

from genie.models.backbone import TokenizerBackbone
from genie.models.layers.cache import DecoderCache
from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizers.registry import BACKBONES


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


@pytest.fixture(params=["small transformer", "grey", *BACKBONES])
def tokenizer(request) -> TokenizerBackbone:
    """Each tokenizer that a world can have, of frames of 16x16."""
    if request.param in BACKBONES:
        config = BACKBONES[request.param](patch=4, quantizer=VQConfig(codes=32, dim=8))
        torch.manual_seed(0)
        return config.build((16, 16))
    return GreyTokenizer() if request.param == "grey" else build()


def test_an_incomplete_backbone_cannot_be_built():
    class Incomplete(TokenizerBackbone):
        def encode(self, frames):
            return frames

    with pytest.raises(TypeError, match="abstract"):
        Incomplete()


def test_tokens_are_on_the_grid_and_in_the_vocabulary(tokenizer):
    assert isinstance(tokenizer, TokenizerBackbone)
    tokens = tokenizer.encode(clips(2, 3))
    assert tokens.shape == (2, 3, tokenizer.tokens_per_frame)
    assert tokenizer.tokens_per_frame == tokenizer.grid[0] * tokenizer.grid[1]
    assert 0 <= tokens.min() <= tokens.max() < tokenizer.vocabulary
    assert tokenizer.decode(tokens).shape == (2, 3, 16, 16, 3)


def test_tokens_depend_on_no_more_frames_than_it_says(tokenizer):
    frames = clips(2, tokenizer.past + 3)
    whole = tokenizer.encode(frames)[:, -1]
    assert torch.equal(tokenizer.encode(frames[:, -1 - tokenizer.past :])[:, -1], whole)


def test_decoding_frame_by_frame_equals_decoding_at_once(tokenizer):
    tokens = torch.randint(0, tokenizer.vocabulary, (3, 9, tokenizer.tokens_per_frame))
    whole = tokenizer.decode(tokens)
    cache = tokenizer.prefill(tokens[:, :2])
    for t in range(2, 9):
        frame, cache = tokenizer.decode_step(tokens[:, t], cache)
        assert (frame.int() - whole[:, t].int()).abs().max() <= 1


def test_a_tokenizer_that_says_nothing_of_compiling_compiles_the_decoding_of_a_step():
    tokenizer, graphs = GreyTokenizer(), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    tokens = torch.randint(0, tokenizer.vocabulary, (2, 3, tokenizer.tokens_per_frame))
    cache = tokenizer.prefill(tokens[:, :2])
    plain, _ = tokenizer.decode_step(tokens[:, 2], cache)
    tokenizer.compile(backend=backend)
    compiled, _ = tokenizer.decode_step(tokens[:, 2], cache)
    assert graphs
    assert torch.equal(compiled, plain)


def test_its_loss_trains_all_weights(tokenizer):
    tokenizer.train()
    loss, logs = tokenizer.loss(clips())
    loss.backward()
    assert loss.isfinite()
    assert "psnr" in logs
    assert all(weight.grad is not None for weight in tokenizer.parameters())


def test_its_device_is_that_of_the_weights(tokenizer):
    assert tokenizer.device == torch.device("cpu")
    assert tokenizer.to("meta").device == torch.device("meta")
