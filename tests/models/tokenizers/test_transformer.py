from dataclasses import replace

import pytest
import torch
from untrained_tokenizer import CONFIG, LAYERS, build, clips

from genie.models.quantizers.registry import KINDS


def test_shapes_types_and_ranges():
    tokenizer = build()
    tokens = tokenizer.encode(clips())
    assert tokens.shape == (4, 6, 16)
    assert tokens.dtype == torch.int64
    assert tokens.min() >= 0
    assert tokens.max() < tokenizer.vocabulary
    assert tokenizer.decode(tokens).shape == clips().shape
    assert tokenizer.decode(tokens).dtype == torch.uint8


def test_decoding_frame_by_frame_equals_decoding_at_once():
    tokenizer = build()
    tokens = torch.randint(0, 32, (3, 12, 16))
    whole = tokenizer.decode(tokens)
    cache = tokenizer.prefill(tokens[:, :2])
    for t in range(2, 12):
        frame, cache = tokenizer.decode_step(tokens[:, t], cache)
        assert (frame.int() - whole[:, t].int()).abs().max() <= 1


def test_a_spatial_encoder_does_not_know_the_past():
    tokenizer = build(replace(CONFIG, encoder=replace(LAYERS, window=1)))
    assert tokenizer.past == 0
    assert build().past == 2 * 3
    frames = clips()
    assert torch.equal(tokenizer.encode(frames)[:, 3:4], tokenizer.encode(frames[:, 3:4]))


def test_without_attention_over_space_a_token_means_the_same_everywhere():
    patch = clips(1, 2, (4, 4))
    tiled = patch.repeat(1, 1, 4, 4, 1)
    changed = tiled.clone()
    changed[:, :, 4:8, 8:12] = 255 - changed[:, :, 4:8, 8:12]
    tokenizer = build(replace(CONFIG, encoder=replace(LAYERS, spatial_attention=False)))
    tokens, others = tokenizer.encode(tiled), tokenizer.encode(changed)
    assert torch.equal(tokens, tokens[:, :, :1].expand_as(tokens))
    different = (tokens != others).any(dim=(0, 1)).nonzero().flatten().tolist()
    assert different == [6]
    tokens = build().encode(tiled)
    assert not torch.equal(tokens, tokens[:, :, :1].expand_as(tokens))


def test_encoding_learns_nothing_even_in_training_mode():
    tokenizer = build().train()
    tokenizer.loss(clips())
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    tokenizer.encode(clips())
    for name, value in tokenizer.state_dict().items():
        assert torch.equal(before[name], value), name


@pytest.mark.parametrize("kind", KINDS)
def test_overfits_one_batch_with_varied_tokens(kind: str):
    config = replace(CONFIG, quantizer=KINDS[kind](codes=64))
    tokenizer = build(config).train()
    # Two-coloured blocks: something that tokens can say.
    blocks = torch.randint(0, 2, (2, 3, 4, 4, 1), dtype=torch.uint8) * 200 + 20
    frames = blocks.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, -1, -1, -1, 3)
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=3e-3)
    first = None
    for _ in range(120):
        loss, logs = tokenizer.loss(frames)
        first = first if first is not None else logs["psnr"].item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert logs["psnr"] > first + 8
    assert tokenizer.eval().encode(frames).unique().numel() > 1
