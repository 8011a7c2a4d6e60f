from dataclasses import replace

import pytest
import torch
from untrained_tokenizer import learned

from genie.core.config import UserError
from genie.models.layers.transformer import TransformerConfig
from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizers.conv3d import (
    CausalResidualBlock,
    CausalStack,
    Conv3DTokenizer,
    Conv3DTokenizerConfig,
    depth_to_space,
)

CONFIG = Conv3DTokenizerConfig(
    patch=4,
    channels=8,
    attention=TransformerConfig(layers=1, width=32, heads=4, window=3),
    quantizer=VQConfig(codes=32, dim=8),
)


def build(**changes: object) -> Conv3DTokenizer:
    torch.manual_seed(0)
    return replace(CONFIG, **changes).build((16, 16))


def test_it_learns_one_batch_with_several_codes():
    decibels, codes = learned(build(), steps=60)
    assert decibels > 10
    assert codes >= 4


def test_frame_by_frame_is_bit_close_to_the_clip_at_once():
    """Before rounding to grey levels, and past the end of every memory."""
    tokenizer = build().eval()
    vectors = tokenizer.vectors(torch.randint(0, 32, (2, 12, 16)))
    with torch.no_grad():
        whole = tokenizer.up(torch.zeros(2, 12, 16, 4, 4))[0]
        assert whole.shape == (2, 12, 3, 16, 16)
        x = tokenizer.from_decoder(tokenizer.decoder(tokenizer._embed(vectors)))
        x = x.transpose(2, 3).unflatten(3, tokenizer.grid)
        whole, past = tokenizer.up(x)[0], []
        for time in range(12):
            frame, past = tokenizer.up(x[:, time : time + 1], past)
            torch.testing.assert_close(frame[:, 0], whole[:, time], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prompt", [1, 2, 7])
@pytest.mark.parametrize("window", [1, 3])
def test_play_from_a_prompt_of_any_length_equals_the_clip_at_once(prompt, window):
    tokenizer = build(attention=replace(CONFIG.attention, window=window))
    tokens = torch.randint(0, 32, (2, 10, 16))
    whole, cache = tokenizer.decode(tokens), tokenizer.prefill(tokens[:, :prompt])
    for time in range(prompt, 10):
        frame, cache = tokenizer.decode_step(tokens[:, time], cache)
        assert (frame.int() - whole[:, time].int()).abs().max() <= 1
    assert cache.time.tolist() == [10, 10]


def test_a_frame_depends_on_as_many_frames_as_it_says_and_no_more():
    tokenizer = build()
    assert tokenizer.past == 2 * 2 + 2  # two convolutions, and attention to two frames
    torch.manual_seed(0)
    pixels = torch.randn(1, tokenizer.past + 3, 16, 16, 3, requires_grad=True)
    tokenizer.features(pixels)[:, -1].sum().backward()
    seen = pixels.grad.abs().sum(dim=(0, 2, 3, 4)) > 0
    assert seen.tolist() == [False] * 2 + [True] * (tokenizer.past + 1)


def test_a_later_frame_changes_none_before_it_through_the_normalisation():
    block = CausalResidualBlock(8)
    x = torch.randn(1, 5, 8, 4, 4)
    louder = torch.cat([x[:, :3], 100 * x[:, 3:]], dim=1)
    torch.testing.assert_close(block(x)[0][:, :3], block(louder)[0][:, :3])


def test_a_stack_keeps_two_frames_of_each_causal_block():
    stack = CausalStack([CausalResidualBlock(8), depth_to_space(8, 16), CausalResidualBlock(16)])
    x, kept = stack(torch.randn(3, 1, 8, 4, 4))
    assert x.shape == (3, 1, 16, 8, 8)
    assert [each.shape for each in kept] == [(3, 2, 8, 4, 4), (3, 2, 16, 8, 8)]
    assert (kept[0][:, 0] == 0).all()  # there was no frame before


def test_what_is_kept_of_a_prompt_is_no_view_of_it():
    cache = build().prefill(torch.randint(0, 32, (1, 9, 16)))
    for each in cache.tensors:
        assert each.untyped_storage().nbytes() == each.numel() * each.element_size()


def test_layers_are_those_of_convolutions_and_attention():
    assert CONFIG.layers == 2 * (2 + 1)
    assert build(residual_blocks=0).past == 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"patch": 12}, "patch: each stage halves a frame, so take 2, 4, 8, 16 or so; got 12"),
        ({"channels": 4}, "channels: must be a multiple of 8, got 4"),
        ({"residual_blocks": -1}, "residual_blocks: must not be negative"),
        ({"residual_blocks": 1000}, "residual_blocks: 1000 is too large"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        replace(CONFIG, **changes)
