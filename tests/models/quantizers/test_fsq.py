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
