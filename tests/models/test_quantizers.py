import copy

import pytest
import torch

from genie.core.config import UserError
from genie.models import quantizers
from genie.models.quantizers import (
    QuantizerConfig,
    VectorQuantizer,
    build_quantizer,
    mean_over_ranks,
    perplexity,
)

KINDS = [
    QuantizerConfig(kind="vq", codes=16, dim=4),
    QuantizerConfig(kind="fsq", codes=64),
    QuantizerConfig(kind="lfq", codes=16),
]


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)
def test_codes_look_up_to_the_vectors_that_were_returned(config: QuantizerConfig):
    torch.manual_seed(0)
    quantizer = build_quantizer(config)
    features = torch.randn(3, 5, quantizer.dim)
    quantizer(features)
    quantizer.eval()
    vectors, codes, _ = quantizer(features)
    assert codes.shape == (3, 5)
    assert codes.min() >= 0
    assert codes.max() < quantizer.size
    torch.testing.assert_close(quantizer.lookup(codes), vectors, atol=1e-5, rtol=0)
    assert torch.equal(quantizer.assign(features), codes)


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)
def test_gradients_pass_through(config: QuantizerConfig):
    quantizer = build_quantizer(config)
    features = torch.randn(4, 6, quantizer.dim, requires_grad=True)
    vectors, _, loss = quantizer(features)
    (vectors * torch.randn_like(vectors)).sum().backward(retain_graph=True)
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
    if config.kind != "fsq":
        features.grad = None
        loss.backward()
        assert features.grad.abs().sum() > 0, "the quantizer loss gives no gradient"


def test_codebook_follows_features_while_training_and_only_then():
    torch.manual_seed(0)
    quantizer = build_quantizer(QuantizerConfig(codes=8, dim=4))
    features = torch.randn(64, 4)
    first = quantizer(features)
    quantizer.train()
    before = quantizer.codebook.clone()
    quantizer(features + 1e-3 * torch.randn_like(features))
    assert not torch.equal(before, quantizer.codebook)
    before = quantizer.codebook.clone()
    quantizer.assign(features)
    quantizer.eval()
    quantizer(features)
    assert torch.equal(before, quantizer.codebook)
    assert first.loss > 0


def test_kmeans_finds_separate_clusters():
    torch.manual_seed(0)
    centres = torch.nn.functional.layer_norm(torch.randn(6, 8), (8,))
    features = centres.repeat_interleave(40, 0) + 0.02 * torch.randn(240, 8)
    quantizer = build_quantizer(QuantizerConfig(codes=6, dim=8))
    codes = quantizer(features).codes.view(6, 40)
    assert (codes == codes[:, :1]).all()
    assert len(codes[:, 0].unique()) == 6


def test_dead_codes_are_revived():
    torch.manual_seed(0)
    quantizer = build_quantizer(QuantizerConfig(codes=8, dim=4, ema_decay=0.5))
    quantizer(torch.randn(4, 4).repeat(16, 1))  # four places for eight codes
    spread = torch.randn(256, 4)
    for _ in range(30):
        codes = quantizer(spread).codes
    assert len(codes.unique()) == 8


def test_perplexity_counts_codes_in_use():
    assert perplexity(torch.tensor([10, 0, 0, 0])).item() == pytest.approx(1)
    assert perplexity(torch.tensor([5, 5, 5, 5])).item() == pytest.approx(4)
    assert perplexity(torch.zeros(4)).item() == pytest.approx(1)  # none was counted


@pytest.mark.parametrize(("kind", "codes"), [("fsq", 1024), ("lfq", 1000)])
def test_sizes_a_quantizer_cannot_have_are_refused(kind: str, codes: int):
    with pytest.raises(UserError, match="codes"):
        QuantizerConfig(kind=kind, codes=codes)


def test_mixed_precision_does_not_change_the_codes():
    torch.manual_seed(0)
    quantizer = build_quantizer(QuantizerConfig(codes=256, dim=32)).eval()
    features = torch.randn(500, 32)
    plain = quantizer(features).codes
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer(features).codes, plain)
        assert torch.equal(quantizer.assign(features), plain)


def test_a_mean_over_ranks_is_of_all_and_alone_of_itself(monkeypatch):
    values = torch.tensor([1.0, 3.0])
    mean_over_ranks(values)
    assert values.tolist() == [1, 3]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda mine: mine.add_(5))  # the other's
    mean_over_ranks(values)
    assert values.tolist() == [3, 4]


def test_codes_are_placed_in_the_middle_of_clusters():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(QuantizerConfig(codes=8, dim=6))
    centres = quantizer.normalise(torch.randn(8, 6))
    points = quantizer.normalise(centres.repeat_interleave(40, dim=0) + 0.05 * torch.randn(320, 6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        quantizer.place(points)
    assert torch.cdist(centres, quantizer.codebook).amin(dim=1).max() < 0.1
    assert quantizer.placed


def test_codes_are_placed_once_and_again_only_where_that_is_wished():
    quantizer = VectorQuantizer(QuantizerConfig(codes=4, dim=6, ema_decay=0.999))
    far = quantizer.normalise(torch.randn(40, 6))
    fresh = copy.deepcopy(quantizer.state_dict())
    quantizer.place_once(far[:0])
    assert not quantizer.placed
    quantizer(far)
    placed = quantizer.codebook.clone()
    quantizer(torch.randn(40, 6))
    torch.testing.assert_close(quantizer.codebook, placed, atol=0.01, rtol=0)
    for again in (quantizer.unplace, lambda: quantizer.load_state_dict(fresh)):
        quantizer.codebook.zero_()
        again()
        quantizer(far)
        assert quantizer.placed
        assert quantizer.codebook.any()


@pytest.mark.parametrize(("codes", "starts"), [(64, 4), (65, 1)])
def test_only_a_handful_of_codes_is_started_with_care(codes: int, starts: int, monkeypatch):
    quantizer = VectorQuantizer(QuantizerConfig(codes=codes, dim=4))
    begin, calls = quantizers._start, []
    monkeypatch.setattr(quantizers, "_start", lambda *x: calls.append(x) or begin(*x))
    quantizer.place(quantizer.normalise(torch.randn(200, 4)))
    assert len(calls) == starts
