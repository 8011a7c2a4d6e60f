"""What every backbone promises, at its own default sizes. A new one is found by the list."""

import re
from dataclasses import fields, replace

import pytest
import torch
from untrained_tokenizer import clips

from genie.core.config import UserError
from genie.models.layers.cache import DecoderCache
from genie.models.quantizers.registry import KINDS
from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizers.base import BaseConfig, Tokenizer
from genie.models.tokenizers.registry import BACKBONES

SIZE = (16, 16)


def build(name: str, size: tuple[int, int] = SIZE, **changes: object) -> Tokenizer:
    torch.manual_seed(0)
    small = {"patch": 4, "quantizer": VQConfig(codes=32, dim=8)}
    return BACKBONES[name](**(small | changes)).build(size)


@pytest.fixture(params=BACKBONES)
def name(request) -> str:
    return request.param


@pytest.mark.parametrize("kind", KINDS)
def test_any_quantizer_goes_with_it(name, kind):
    tokenizer = build(name, quantizer=KINDS[kind](codes=64)).train()
    loss, logs = tokenizer.loss(clips(2, 3))
    loss.backward()
    assert set(logs) == {"psnr", "perplexity", "quantizer_loss"}
    assert all(weight.grad.isfinite().all() for weight in tokenizer.parameters())
    tokens = tokenizer.eval().encode(clips(2, 3))
    assert (tokenizer.vocabulary, tokens.max() < 64) == (64, True)
    assert tokenizer.can_collapse == KINDS[kind].can_collapse


def test_each_coefficient_reaches_the_loss(name):
    losses = set()
    for change in ({}, {"l2_weight": 2.0}, {"l1_weight": 2.0}, {"motion_weight": 20.0}):
        frames = clips()
        frames[:, 1:, :8] = frames[:, :1, :8]  # only the lower half moves
        losses.add(build(name, **change).eval().loss(frames)[0].item())
    assert len(losses) == 4


@pytest.mark.parametrize("size", [(18, 22), (16, 30), (17, 16)])
def test_frames_whose_sides_are_no_multiple_of_the_patch(name, size):
    frames, tokenizer = clips(2, 3, size), build(name, size)
    rows, columns = tokenizer.grid
    if not tokenizer.coarse_tokens:
        assert (4 * rows - size[0], 4 * columns - size[1]) == (-size[0] % 4, -size[1] % 4)
    tokens = tokenizer.encode(frames)
    assert tokens.shape == (2, 3, rows * columns)
    whole = tokenizer.decode(tokens)
    assert whole.shape == frames.shape
    frame, _ = tokenizer.decode_step(tokens[:, 2], tokenizer.prefill(tokens[:, :2]))
    assert (frame.int() - whole[:, 2].int()).abs().max() <= 1
    assert tokenizer.train().loss(frames)[0].isfinite()


def test_what_comes_later_changes_nothing(name):
    tokenizer, frames = build(name), clips()
    later = frames.clone()
    later[:, 3:] = 255 - later[:, 3:]
    tokens, others = tokenizer.encode(frames), tokenizer.encode(later)
    assert torch.equal(tokens[:, :3], others[:, :3])
    assert not torch.equal(tokens[:, 3:], others[:, 3:])
    other = tokens.clone()
    other[:, 3:] = (other[:, 3:] + 1) % 32
    assert torch.equal(tokenizer.decode(tokens)[:, :3], tokenizer.decode(other)[:, :3])
    assert not torch.equal(tokenizer.decode(tokens)[:, 3:], tokenizer.decode(other)[:, 3:])


def test_players_of_different_length_play_on_together(name):
    tokenizer = build(name)
    tokens = torch.randint(0, 32, (2, 7, tokenizer.tokens_per_frame))
    caches = [tokenizer.prefill(tokens[:1, :5]), tokenizer.prefill(tokens[1:, :2])]
    both = DecoderCache.concatenate(caches)
    assert both.time.tolist() == [5, 2]
    expected = tokenizer.decode(tokens)
    for step in range(2):
        now = torch.stack([tokens[0, 5 + step], tokens[1, 2 + step]])
        frame, both = tokenizer.decode_step(now, both)
        for player, time in enumerate((5 + step, 2 + step)):
            assert (frame[player].int() - expected[player, time].int()).abs().max() <= 1
    alone = both.select(torch.tensor([1]))
    assert alone.time.tolist() == [4]
    frame, _ = tokenizer.decode_step(tokens[1:, 4], alone)
    assert (frame[0].int() - expected[1, 4].int()).abs().max() <= 1


def test_a_step_leaves_the_cache_before_it_as_it_was(name):
    tokenizer = build(name)
    tokens = torch.randint(0, 32, (1, 4, tokenizer.tokens_per_frame))
    cache = tokenizer.prefill(tokens[:, :3])
    before = [each.clone() for each in cache.tensors]
    first, _ = tokenizer.decode_step(tokens[:, 3], cache)
    again, _ = tokenizer.decode_step(tokens[:, 3], cache)
    assert torch.equal(first, again)
    assert all(torch.equal(*pair) for pair in zip(before, cache.tensors, strict=True))


def test_it_plays_in_half_precision(name):
    tokenizer = build(name).bfloat16()
    frames = clips(1, 3)
    tokens = tokenizer.encode(frames)
    frame, cache = tokenizer.decode_step(tokens[:, 2], tokenizer.prefill(tokens[:, :2]))
    assert frame.dtype == torch.uint8
    assert all(each.dtype == torch.bfloat16 for each in cache.tensors)
    assert tokenizer.dtype == torch.bfloat16


def test_it_has_a_tensor_for_each_of_its_layers(name):
    config = BACKBONES[name]()
    weights = [key for key in config.build((64, 64)).state_dict() if not key.startswith("quant")]
    assert 0 < config.layers <= len(weights)


def test_its_configuration_has_what_all_have(name):
    config = BACKBONES[name]()
    assert isinstance(config, BaseConfig)
    described = re.findall(r"^ {8}([\w, ]+):", type(config).__doc__, re.MULTILINE)
    assert {field.name for field in fields(config)} == set(", ".join(described).split(", "))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"patch": 0}, "patch: must be at least 1"),
        ({"patch": 4096}, "patch: 4096 is too large"),
        ({"l2_weight": 0.0, "l1_weight": 0.0}, "l2_weight: both pixel losses are switched off"),
        ({"motion_weight": -1.0}, "motion_weight: must not be negative"),
    ],
)
def test_impossible_settings_are_refused(name, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        replace(BACKBONES[name](), **changes)
