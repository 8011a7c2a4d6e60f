from dataclasses import replace

import pytest
import torch
from untrained_tokenizer import clips, learned

from genie.core.config import UserError
from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizers.conv import ConvTokenizer, ConvTokenizerConfig, stage_widths

CONFIG = ConvTokenizerConfig(
    patch=4, channels=8, residual_blocks=1, quantizer=VQConfig(codes=32, dim=8)
)


def build(**changes: object) -> ConvTokenizer:
    torch.manual_seed(0)
    return replace(CONFIG, **changes).build((16, 16))


def test_it_learns_one_batch_with_several_codes():
    decibels, codes = learned(build(channels=16), steps=40)
    assert decibels > 10
    assert codes >= 4


def test_a_frame_is_encoded_and_decoded_alone():
    tokenizer, frames = build(), clips()
    assert tokenizer.past == 0
    tokens = tokenizer.encode(frames)
    assert torch.equal(tokens[:, 3:4], tokenizer.encode(frames[:, 3:4]))
    decoded = tokenizer.decode(tokens)
    assert torch.equal(decoded[:, 3:4], tokenizer.decode(tokens[:, 3:4]))
    cache = tokenizer.prefill(tokens[:, :2])
    assert (cache.tensors, cache.time.tolist()) == ((), [2] * 4)
    assert tokenizer.decode_step(tokens[:, 2], cache)[1].time.tolist() == [3] * 4


def test_each_stage_halves_the_frame_and_widens_it_up_to_four_times():
    assert stage_widths(8, 64) == [64, 128, 256]
    assert stage_widths(2, 64) == [64]
    assert stage_widths(32, 16) == [16, 32, 64, 64, 64]
    for patch in (2, 4, 8, 16):
        assert build(patch=patch).grid == (16 // patch, 16 // patch)


def test_more_blocks_are_more_layers():
    assert CONFIG.layers == 4
    assert replace(CONFIG, residual_blocks=3, patch=8).layers == 18
    assert len(build(residual_blocks=0).encode(clips())) == 4


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"patch": 6}, "patch: each stage halves a frame, so take 2, 4, 8, 16 or so; got 6"),
        ({"patch": 1}, "patch: each stage halves a frame, .* got 1"),
        ({"channels": 20}, "channels: must be a multiple of 8, got 20"),
        ({"channels": 0}, "channels: must be a multiple of 8, got 0"),
        ({"channels": 2**20}, "channels: 1048576 is too large"),
        ({"residual_blocks": -1}, "residual_blocks: must not be negative"),
        ({"residual_blocks": 1000}, "residual_blocks: 1000 is too large"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        replace(CONFIG, **changes)
