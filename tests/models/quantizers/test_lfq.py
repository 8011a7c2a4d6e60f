import pytest
import torch

from genie.core.config import UserError
from genie.models.quantizers.lfq import LFQConfig


def test_a_code_is_the_signs_of_the_features():
    quantizer = LFQConfig(codes=16).build().eval()
    features = torch.randn(50, 4)
    assert torch.equal(quantizer(features).vectors.sign(), features.sign())


def test_sizes_that_are_no_power_of_two_are_refused():
    with pytest.raises(UserError, match="codes: LFQ needs a power of two, got 1000"):
        LFQConfig(codes=1000)


def test_both_weights_reach_the_loss():
    features = torch.randn(50, 4)
    found = [
        LFQConfig(codes=16, **weights).build()(features).loss.item()
        for weights in ({}, {"commitment_weight": 2.0}, {"entropy_weight": 2.0})
    ]
    assert len(set(found)) == 3
