import pytest
import torch
from grey_tokenizer import GreyTokenizer
from untrained_tokenizer import build, clips

from genie.models.backbone import TokenizerBackbone
from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizers.registry import BACKBONES


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
