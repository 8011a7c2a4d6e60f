import pytest
import torch

from genie.core.config import UserError
from genie.models.layers.attention import gather_positions
from genie.models.layers.cache import TemporalCache
from genie.models.layers.transformer import STTransformer, TransformerConfig, receptive_field

CONFIG = TransformerConfig(layers=3, width=32, heads=4, window=5)


def stack(config: TransformerConfig = CONFIG) -> STTransformer:
    torch.manual_seed(0)
    return STTransformer(config).eval()


def same(one: TemporalCache, other: TemporalCache) -> None:
    assert torch.equal(one.time, other.time)
    torch.testing.assert_close(one.keys, other.keys, atol=1e-4, rtol=0)
    torch.testing.assert_close(one.values, other.values, atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("window", "space"), [(1, True), (2, True), (5, True), (5, False)])
def test_stepping_equals_the_full_forward_past_many_evictions(window: int, space: bool):
    config = TransformerConfig(layers=3, width=32, heads=4, window=window, spatial_attention=space)
    model, frames = stack(config), 3 * 5
    x = torch.randn(4, frames, 6, 32)
    full = model(x)
    cache = model.empty_cache(4, 6)
    for t in range(frames):
        draft = model.step_without_update(x[:, t : t + 1], cache)
        remembered = model.updated_cache(x[:, t : t + 1], cache)
        step, cache = model.step(x[:, t : t + 1], cache)
        assert torch.equal(draft, step)
        same(remembered, cache)
        same(model.prefill(x[:, : t + 1]), cache)
        torch.testing.assert_close(step[:, 0], full[:, t], atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("window", "space"), [(1, True), (5, True), (5, False)])
def test_a_draft_of_some_places_is_a_part_of_the_whole_draft(window: int, space: bool):
    model = stack(
        TransformerConfig(layers=2, width=32, heads=4, window=window, spatial_attention=space)
    )
    x, cache = torch.randn(3, 1, 6, 32), model.prefill(torch.randn(3, 7, 6, 32))
    positions = torch.tensor([[0, 5], [3, 1], [2, 2]])
    some, whole = (
        model.step_without_update(x, cache, positions=positions),
        model.step_without_update(x, cache),
    )
    torch.testing.assert_close(some, gather_positions(whole, positions))
    assert torch.equal(gather_positions(whole, positions)[2, 0, 1], whole[2, 0, 2])


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_stepping_works_in_other_precisions(dtype: torch.dtype):
    model = stack(TransformerConfig(layers=2, width=32, heads=4, window=3)).to(dtype)
    x, cache = torch.randn(2, 7, 6, 32, dtype=dtype), model.empty_cache(2, 6)
    for t in range(7):
        step, cache = model.step(x[:, t : t + 1], cache)
    tolerance = 1e-9 if dtype == torch.float64 else 0.1
    torch.testing.assert_close(step[:, 0], model(x)[:, -1], atol=tolerance, rtol=0)


@torch.no_grad()
def test_under_autocast_the_cache_keeps_its_precision():
    model = stack(TransformerConfig(layers=2, width=32, heads=4, window=3))
    x = torch.randn(2, 7, 6, 32)
    with torch.autocast("cpu", torch.bfloat16):
        cache = model.prefill(x[:, :2])
        for t in range(2, 7):
            step, cache = model.step(x[:, t : t + 1], cache)
    assert cache.keys.dtype == torch.float32
    torch.testing.assert_close(step[:, 0].float(), model(x)[:, -1], atol=0.1, rtol=0)


@torch.no_grad()
def test_the_future_and_what_left_the_window_have_no_influence():
    model = stack(TransformerConfig(layers=1, width=32, heads=4, window=3))
    x = torch.randn(1, 8, 4, 32)
    y = model(x)
    changed = x.clone()
    changed[:, 5] = torch.randn(1, 4, 32)
    moved = (model(changed) - y).abs().amax(dim=(0, 2, 3)) > 1e-6
    assert moved.tolist() == [False] * 5 + [True, True, True]


@torch.no_grad()
def test_a_window_of_one_treats_frames_alone():
    model = stack(TransformerConfig(layers=2, width=32, heads=4, window=1))
    x = torch.randn(2, 4, 4, 32)
    torch.testing.assert_close(model(x)[:, 2:3], model(x[:, 2:3]), atol=1e-5, rtol=0)


@torch.no_grad()
def test_without_attention_over_space_patches_are_treated_alone():
    x = torch.randn(2, 4, 4, 32)
    for space, alone in ((False, True), (True, False)):
        model = stack(
            TransformerConfig(layers=2, width=32, heads=4, window=3, spatial_attention=space)
        )
        assert torch.allclose(model(x)[:, :, 2:3], model(x[:, :, 2:3]), atol=1e-5) is alone


def test_gradient_checkpointing_changes_no_gradient():
    x = torch.randn(2, 3, 4, 32)
    gradients = []
    for checkpointing in (False, True):
        config = TransformerConfig(
            layers=2, width=32, heads=4, activation_checkpointing=checkpointing
        )
        model = stack(config).train()
        model(x).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, saved in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, saved)


@pytest.mark.parametrize("field", ["layers", "width", "heads", "window"])
def test_impossible_sizes_name_the_field(field: str):
    with pytest.raises(UserError, match=field):
        TransformerConfig(**{field: 0})


def test_heads_must_divide_the_width():
    with pytest.raises(UserError, match="heads: width 30 is not divisible by 4"):
        TransformerConfig(width=30, heads=4)


def test_the_receptive_field_counts_all_layers():
    assert receptive_field(TransformerConfig(layers=2, window=3)) == 2 * (3 - 1)
    assert receptive_field(TransformerConfig(layers=4, window=1)) == 0
