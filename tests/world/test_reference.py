from dataclasses import replace
from pathlib import Path

import pytest
import torch
from untrained import CONFIG, close, frames, stirred

from forked import output_of
from genie import Genie, SamplingConfig
from genie.models.layers.transformer import TransformerConfig


@pytest.mark.parametrize("order", ["confidence", "random", "halton"])
def test_the_cached_game_equals_its_plain_twin_over_three_windows(world: Genie, order: str):
    sampling = SamplingConfig(steps=3, order=order)
    prompt, buttons = frames(4, 2), torch.randint(0, 4, (4, 12))
    cached = world.generate(prompt, buttons, seed=7, sampling=sampling)
    plain = world.generate(prompt, buttons, seed=7, sampling=sampling, use_cache=False)
    assert close(cached, plain)


def test_guidance_is_the_same_with_and_without_the_cache():
    dynamics = replace(CONFIG.dynamics, unconditional_fraction=0.1)
    world = stirred(replace(CONFIG, dynamics=dynamics))
    prompt, actions = frames(4, 2), torch.randint(0, 4, (4, 6))

    def played(**options):
        sampling = SamplingConfig(steps=3, temperature=0, guidance=options.pop("guidance"))
        return world.generate(prompt, actions, seed=7, sampling=sampling, **options)

    assert close(played(guidance=2.0), played(guidance=2.0, use_cache=False))
    assert not close(played(guidance=2.0), played(guidance=0.0))


@pytest.mark.parametrize("history", [1, 3], ids=["alone", "past"])
def test_reencoding_is_the_same_with_and_without_the_cache(history: int):
    encoder = replace(CONFIG.tokenizer.encoder, window=history)
    world = stirred(replace(CONFIG, tokenizer=replace(CONFIG.tokenizer, encoder=encoder)))
    prompt, actions = frames(4, 2), torch.randint(0, 4, (4, 10))

    def played(every, **options):
        sampling = SamplingConfig(steps=3, reencode_every=every)
        return world.generate(prompt, actions, seed=7, sampling=sampling, **options)

    assert close(played(3), played(3, use_cache=False))
    assert not close(played(3), played(0))
    assert torch.equal(played(3)[:, :4], played(0)[:, :4])  # the first one after frame 3 differs


TIMED = """
import sys, time, numpy as np
from genie import Genie

world, prompt = Genie.from_pretrained(sys.argv[1], device="cpu"), np.zeros((64, 64, 3), np.uint8)

def seconds(use_cache):
    began = time.process_time()  # of this process only, whatever else runs
    world.generate(prompt, [0] * 24, use_cache=use_cache)
    return time.process_time() - began

seconds(True)
print(min(seconds(False) for _ in range(3)) / min(seconds(True) for _ in range(3)))
"""


@pytest.mark.long
def test_the_cached_game_costs_a_fraction_of_its_plain_twin(tmp_path: Path):
    layers = TransformerConfig(layers=2, width=64, heads=2, window=8)
    config = replace(
        CONFIG,
        height=64,
        width=64,
        tokenizer=replace(CONFIG.tokenizer, encoder=layers, decoder=layers),
        dynamics=replace(CONFIG.dynamics, width=64, heads=2, window=8),
    )
    Genie(config).save_pretrained(tmp_path)
    assert float(output_of(TIMED, tmp_path)) > 3  # 5 where it was written
