from dataclasses import fields

import pytest
import torch

from genie.core.config import UserError
from genie.models.quantizers.base import BaseConfig, perplexity
from genie.models.quantizers.registry import KINDS


def build(kind: str, codes: int = 64):
    torch.manual_seed(0)
    return KINDS[kind](codes=codes).build()


@pytest.mark.parametrize("kind", KINDS)
def test_codes_decode_to_the_vectors_that_were_returned(kind: str):
    quantizer = build(kind)
    features = torch.randn(3, 5, quantizer.dim)
    quantizer(features)
    quantizer.eval()
    vectors, codes, _ = quantizer(features)
    assert quantizer.size == 64
    assert codes.shape == (3, 5)
    assert codes.dtype == torch.int64
    assert codes.min() >= 0
    assert codes.max() < quantizer.size
    torch.testing.assert_close(quantizer.decode(codes), vectors, atol=1e-5, rtol=0)
    assert torch.equal(quantizer.encode(features), codes)


@pytest.mark.parametrize("kind", KINDS)
def test_every_code_has_a_vector_of_its_own(kind: str):
    quantizer = build(kind)
    vectors = quantizer.decode(torch.arange(quantizer.size))
    assert vectors.shape == (quantizer.size, quantizer.dim)
    assert len(vectors.unique(dim=0)) == quantizer.size


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_pass_through_the_vectors_and_the_loss(kind: str):
    quantizer = build(kind)
    features = torch.randn(50, 6, quantizer.dim, requires_grad=True)
    vectors, _, loss = quantizer(features)
    (vectors * torch.randn_like(vectors)).sum().backward(retain_graph=True)
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
    if loss.requires_grad:
        features.grad = None
        loss.backward()
        assert features.grad.abs().sum() > 0
    else:
        assert loss == 0


@pytest.mark.parametrize("kind", KINDS)
def test_encoding_learns_nothing(kind: str):
    quantizer = build(kind)
    quantizer(torch.randn(9, quantizer.dim))
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer.encode(torch.randn(9, quantizer.dim))
    assert all(torch.equal(before[n], value) for n, value in quantizer.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_names_its_kind_and_real_fields(kind: str):
    config = KINDS[kind]()
    assert isinstance(config, BaseConfig)
    assert config.kind == kind
    assert config.only_in_training <= {field.name for field in fields(config)} - {"kind", "codes"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codes", [0, 1, 2**21])
def test_impossible_sizes_are_refused(kind: str, codes: int):
    with pytest.raises(UserError, match="codes"):
        KINDS[kind](codes=codes)


def test_perplexity_counts_codes_in_use():
    assert perplexity(torch.tensor([10, 0, 0, 0])).item() == pytest.approx(1)
    assert perplexity(torch.tensor([5, 5, 5, 5])).item() == pytest.approx(4)
    assert perplexity(torch.zeros(4)).item() == pytest.approx(1)  # none was counted
