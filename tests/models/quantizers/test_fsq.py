import math

import pytest
import torch

from genie.core.config import UserError
from genie.models.quantizers.fsq import FSQ_LEVELS, FSQConfig


@pytest.mark.parametrize("codes", FSQ_LEVELS)
def test_levels_multiply_to_the_size(codes: int):
    quantizer = FSQConfig(codes=codes).build()
    assert math.prod(FSQ_LEVELS[codes]) == codes
    assert (quantizer.size, quantizer.dim) == (codes, len(FSQ_LEVELS[codes]))


def test_a_size_that_the_paper_has_not_is_refused():
    with pytest.raises(UserError, match="codes: FSQ has sizes 64, 240"):
        FSQConfig(codes=1024)


def test_vectors_lie_between_minus_one_and_one():
    vectors, _, loss = FSQConfig(codes=64).build()(10 * torch.randn(100, 2))
    assert vectors.abs().max() <= 1
    assert loss == 0


@pytest.mark.parametrize("codes", FSQ_LEVELS)
def test_it_is_that_of_the_library_to_the_bit(codes: int):
    from vector_quantize_pytorch import FSQ

    ours, theirs = FSQConfig(codes=codes).build(), FSQ(list(FSQ_LEVELS[codes]))
    features = (3 * torch.randn(2, 500, ours.dim)).requires_grad_()
    vectors, tokens, _ = ours(features)
    wanted, wanted_tokens = theirs(features)
    assert torch.equal(vectors, wanted)
    assert torch.equal(tokens, wanted_tokens.long())
    weights = torch.randn_like(vectors)
    (gradient,) = torch.autograd.grad((vectors * weights).sum(), features)
    (wanted_gradient,) = torch.autograd.grad((wanted * weights).sum(), features)
    assert torch.equal(gradient, wanted_gradient)
    every = torch.arange(codes)
    assert torch.equal(ours.decode(every), theirs.indices_to_codes(every[None])[0])
    half = features.detach().bfloat16()
    assert torch.equal(ours(half)[0], theirs(half)[0])
