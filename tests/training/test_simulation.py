from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from genie.models.layers.transformer import STTransformer, TransformerConfig
from genie.training.simulation import MemoryMode, simulate_step

MIB = 2**20


def on_meta(*shape, **settings):
    return torch.empty(*shape, device="meta", **settings)


def test_memory_is_counted_until_it_is_freed():
    with MemoryMode() as memory:
        first = on_meta(MIB)
        view = first[: MIB // 2]
        assert memory.now == 4 * MIB, "a view takes nothing"
        first.add_(1)
        second = first + 1
        assert memory.now == memory.peak == 8 * MIB
        del first, second
        assert memory.now == 4 * MIB, "a view keeps what it is of"
        del view
        assert (memory.now, memory.peak) == (0, 8 * MIB)


@pytest.fixture
def layers():
    """Two layers of a million weights each, and their loss for 256 rows."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(1024, 1024, bias=False), nn.Linear(1024, 1024, bias=False))
    return model, lambda: model(on_meta(256, 1024)).sum()


def test_gradients_stay_until_the_next_backward_pass(layers):
    model, loss = layers
    weights, rows, product = 8 * MIB, MIB, 2 * 256 * 1024 * 1024
    whole = simulate_step(model, loss)
    assert whole.flops == 5 * product, "the first layer needs no gradient of its input"
    assert weights + 2 * rows <= whole.peak <= weights + 5 * rows
    accumulated = simulate_step(model, loss, micro_batches=3)
    assert accumulated.flops == 15 * product
    assert accumulated.peak >= weights + 4 * MIB, "a new gradient is there before it is added"
    shared = simulate_step(model, loss, shard=4).peak
    assert weights / 4 + 2 * rows <= shared < whole.peak - 3 * MIB
    assert all(weight.grad is None for weight in model.parameters())


def test_bfloat16_halves_what_is_kept(layers):
    def activations(bf16):
        with torch.device("meta"):
            model = nn.Sequential(*(nn.Linear(256, 256) for _ in range(6)))
        return simulate_step(model, lambda: model(on_meta(8192, 256)).sum(), bf16=bf16).peak

    assert activations(True) < 0.7 * activations(False)


def test_recomputation_takes_less_memory_and_more_work():
    costs = []
    for again in (False, True):
        config = TransformerConfig(
            layers=3, width=16, heads=2, window=2, activation_checkpointing=again
        )
        with torch.device("meta"):
            model = STTransformer(config).train()
        loss = partial(_sum_of, model, on_meta(2, 4, 16, 16))
        costs.append(simulate_step(model, loss, bf16=True))
    plain, recomputed = costs
    assert recomputed.peak < 0.7 * plain.peak
    assert 1.2 * plain.flops < recomputed.flops < 1.5 * plain.flops


def _sum_of(model, x):
    return model(x).sum()


def test_attention_keeps_no_matrix_of_scores():
    with torch.device("meta"):
        model = nn.Linear(64, 64)

    def loss():
        y = model(on_meta(1, 1, 4096, 64))
        mask = on_meta(4096, 4096, dtype=torch.bool)
        return F.scaled_dot_product_attention(y, y, y, attn_mask=mask).sum()

    scores = 4 * 4096 * 4096
    assert simulate_step(model, loss).peak < 2.5 * scores, "a bias and its mask, no scores per head"
