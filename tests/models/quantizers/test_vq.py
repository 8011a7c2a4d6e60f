import copy
from typing import Any

import pytest
import torch

from genie.core.config import UserError
from genie.models.quantizers import vq
from genie.models.quantizers.vq import VectorQuantizer, VQConfig


def test_codebook_follows_features_while_training_and_only_then():
    torch.manual_seed(0)
    quantizer = VQConfig(codes=8, dim=4).build()
    features = torch.randn(64, 4)
    first = quantizer(features)
    quantizer.train()
    before = quantizer.codebook.clone()
    quantizer(features + 1e-3 * torch.randn_like(features))
    assert not torch.equal(before, quantizer.codebook)
    before = quantizer.codebook.clone()
    quantizer.encode(features)
    quantizer.eval()
    quantizer(features)
    assert torch.equal(before, quantizer.codebook)
    assert first.loss > 0


def test_kmeans_finds_separate_clusters():
    torch.manual_seed(0)
    centres = torch.nn.functional.layer_norm(torch.randn(6, 8), (8,))
    features = centres.repeat_interleave(40, 0) + 0.02 * torch.randn(240, 8)
    quantizer = VQConfig(codes=6, dim=8).build()
    codes = quantizer(features).codes.view(6, 40)
    assert (codes == codes[:, :1]).all()
    assert len(codes[:, 0].unique()) == 6


def test_dead_codes_are_moved():
    torch.manual_seed(0)
    quantizer = VQConfig(codes=8, dim=4, ema_decay=0.5).build()
    quantizer(torch.randn(4, 4).repeat(16, 1))  # four places for eight codes
    spread = torch.randn(256, 4)
    for _ in range(30):
        codes = quantizer(spread).codes
    assert len(codes.unique()) == 8


@pytest.mark.parametrize(
    ("field", "value"), [("dim", 0), ("dim", 65_537), ("ema_decay", 1.0), ("ema_decay", -0.1)]
)
def test_impossible_settings_are_refused(field: str, value: Any):
    with pytest.raises(UserError, match=field):
        VQConfig(**{field: value})


def test_mixed_precision_does_not_change_the_codes():
    torch.manual_seed(0)
    quantizer = VQConfig(codes=256, dim=32).build().eval()
    features = torch.randn(500, 32)
    plain = quantizer(features).codes
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer(features).codes, plain)
        assert torch.equal(quantizer.encode(features), plain)


def test_codes_are_initialized_in_the_middle_of_clusters():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(VQConfig(codes=8, dim=6))
    centres = quantizer.normalise(torch.randn(8, 6))
    points = quantizer.normalise(centres.repeat_interleave(40, dim=0) + 0.05 * torch.randn(320, 6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        quantizer.init_codebook(points)
    assert torch.cdist(centres, quantizer.codebook).amin(dim=1).max() < 0.1
    assert quantizer.initialized


def test_codes_are_initialized_once_and_again_only_after_a_reset():
    quantizer = VectorQuantizer(VQConfig(codes=4, dim=6, ema_decay=0.999))
    far = quantizer.normalise(torch.randn(40, 6))
    fresh = copy.deepcopy(quantizer.state_dict())
    quantizer.init_codebook_once(far[:0])
    assert not quantizer.initialized
    quantizer(far)
    placed = quantizer.codebook.clone()
    quantizer(torch.randn(40, 6))
    torch.testing.assert_close(quantizer.codebook, placed, atol=0.01, rtol=0)
    for again in (quantizer.reset_codebook, lambda: quantizer.load_state_dict(fresh)):
        quantizer.codebook.zero_()
        again()
        assert not quantizer.initialized
        quantizer(far)
        assert quantizer.initialized
        assert quantizer.codebook.any()


@pytest.mark.parametrize(("codes", "starts"), [(64, 4), (65, 1)])
def test_only_a_small_codebook_takes_the_best_of_tries(codes: int, starts: int, monkeypatch):
    quantizer = VectorQuantizer(VQConfig(codes=codes, dim=4))
    begin, calls = vq._start, []
    monkeypatch.setattr(vq, "_start", lambda *x: calls.append(x) or begin(*x))
    quantizer.init_codebook(quantizer.normalise(torch.randn(200, 4)))
    assert len(calls) == starts


def test_the_loss_keeps_features_near_their_code():
    quantizer = VQConfig(codes=8, dim=4, commitment_weight=0.5).build().eval()
    features = torch.randn(64, 4)
    found = quantizer(features)
    distance = quantizer.normalise(features) - quantizer.codebook[found.codes]
    torch.testing.assert_close(found.loss, 0.5 * distance.square().mean())


def test_averages_begin_as_if_the_codes_had_been_used_alike():
    quantizer = VQConfig(codes=8, dim=6).build()
    quantizer.init_codebook(quantizer.normalise(torch.randn(40, 6)))
    assert quantizer.usage.tolist() == [5.0] * 8
    torch.testing.assert_close(quantizer.sums, 5 * quantizer.codebook)


def test_a_batch_smaller_than_the_codebook_keeps_the_scale_of_the_codes():
    quantizer = VQConfig(codes=16, dim=4, ema_decay=0.5, dead_code_threshold=0.0).build()
    features = torch.randn(4, 4)
    for _ in range(3):
        quantizer(features)
    assert 0 < quantizer.usage.max() < 4
    used = quantizer.usage > 1e-6
    expected = quantizer.sums[used] / quantizer.usage[used, None]
    torch.testing.assert_close(quantizer.codebook[used], expected)
    assert (quantizer.usage < 1).any()
