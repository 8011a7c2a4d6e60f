import math

import numpy as np
import torch

from genie.world.rng import gumbel, integers, make_keys, random_bits


def test_bits_are_those_of_splitmix64():
    # Published outputs of the generator for the seed 1234567.
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    bits = random_bits(torch.tensor([1234567]), 5)[0]
    assert [int(number) % 2**64 for number in bits] == expected


def test_noise_is_that_of_its_key_whatever_the_batch_and_the_count():
    keys = torch.tensor([5, -6, 2**62])
    together = gumbel(keys, (7, 9))
    assert together.shape == (3, 7, 9)
    assert together.dtype == torch.float32
    assert torch.equal(together[1:2], gumbel(keys[1:2], (7, 9)))
    assert torch.equal(together[0, 0], gumbel(keys[:1], (9,))[0])


def test_gumbel_noise_has_its_distribution():
    noise = np.sort(gumbel(torch.arange(40), (100, 101)).flatten().numpy())
    expected = np.exp(-np.exp(-noise))
    found = (np.arange(len(noise)) + 0.5) / len(noise)
    assert np.abs(found - expected).max() < 1.63 / math.sqrt(len(noise))  # Kolmogorov, 1 %
    assert np.isfinite(noise).all()


def test_neighbouring_keys_and_numbers_have_nothing_in_common():
    seeds, numbers = torch.arange(50).repeat_interleave(50), torch.arange(50).repeat(50)
    keys = make_keys(seeds, numbers)
    assert len(set(keys.tolist())) == 2500
    for alike in (keys[:100], keys[:1] + torch.arange(100)):  # frames, and passes over a frame
        noise = gumbel(alike, (4096,)).double()
        correlation = np.corrcoef(noise.numpy()) - np.eye(100)
        assert np.abs(correlation).max() < 5 / math.sqrt(4096)


def test_noise_has_a_limit_so_that_logits_always_count(monkeypatch):
    for bits, low, high in ((-1, 16.6, 16.7), (0, -2.9, -2.8)):
        monkeypatch.setattr("genie.world.rng._mixed", lambda x, bits=bits: torch.full_like(x, bits))
        noise = gumbel(torch.tensor([0]), (3,))
        assert low < float(noise.min()) <= float(noise.max()) < high


def test_integers_are_as_likely():
    counts = integers(torch.arange(8), 7000, 7).flatten().bincount()
    assert len(counts) == 7
    assert (counts - 8000).abs().max() < 400
