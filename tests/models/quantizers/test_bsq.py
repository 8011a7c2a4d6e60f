import pytest
import torch

from genie.core.config import UserError
from genie.models.layers.kmeans import count
from genie.models.quantizers.base import perplexity
from genie.models.quantizers.bsq import BSQConfig


def test_a_code_is_the_signs_of_the_features_whatever_their_length():
    quantizer = BSQConfig(codes=16).build()
    features = torch.tensor([[3.0, -1, 2, -4], [-1, 1, -1, 1], [0, 0, 0, 1]])
    vectors, codes, _ = quantizer(features)
    assert codes.tolist() == [0b0101, 0b1010, 0b1000]
    assert vectors.tolist() == [[1, -1, 1, -1], [-1, 1, -1, 1], [-1, -1, -1, 1]]
    assert torch.equal(quantizer.encode(100 * features), codes)


def test_vectors_lie_on_the_sphere_that_features_are_projected_onto():
    quantizer = BSQConfig(codes=2**10).build()
    torch.testing.assert_close(
        quantizer.decode(torch.arange(1024)).norm(dim=-1), torch.full((1024,), 10**0.5)
    )


def test_a_large_vocabulary_needs_no_table():
    quantizer = BSQConfig(codes=2**20).build()
    features = torch.randn(64, 20)
    assert not quantizer.state_dict()
    assert quantizer(features).codes.max() < 2**20
    assert quantizer(features).loss.isfinite()


def test_the_entropy_loss_spreads_use_over_the_codes():
    torch.manual_seed(0)
    quantizer = BSQConfig(codes=16, commitment_weight=0.0).build()
    features = torch.nn.Parameter(1 + torch.randn(256, 4))  # most lie near one corner
    before = perplexity(count(quantizer.encode(features), 16))
    optimizer = torch.optim.Adam([features], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        quantizer(features).loss.backward()
        optimizer.step()
    after = perplexity(count(quantizer.encode(features), 16))
    assert before < 9
    assert after > 13


def test_the_commitment_loss_brings_features_to_their_codes():
    quantizer = BSQConfig(codes=16, entropy_weight=0.0).build()
    on_corner = torch.tensor([[5.0, -5, 5, 5]])
    assert quantizer(on_corner).loss.item() == pytest.approx(0, abs=1e-6)
    assert quantizer(torch.tensor([[5.0, -0.1, 5, 5]])).loss > 0.05


def test_a_feature_of_zeros_has_a_gradient():
    features = torch.zeros(2, 4, requires_grad=True)
    vectors, _, loss = BSQConfig(codes=16).build()(features)
    (vectors.sum() + loss).backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_mixed_precision_does_not_change_the_codes():
    quantizer = BSQConfig(codes=256).build()
    features = torch.randn(500, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer(features).codes, quantizer.encode(features))
    assert torch.equal(quantizer(features.bfloat16()).codes, quantizer.encode(features.bfloat16()))
    assert quantizer(features.bfloat16()).vectors.dtype == torch.bfloat16


def test_sizes_that_are_no_power_of_two_are_refused():
    with pytest.raises(UserError, match="codes: BSQ needs a power of two, got 1000"):
        BSQConfig(codes=1000)
