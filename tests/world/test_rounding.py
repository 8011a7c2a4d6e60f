import pytest
import torch
from safetensors.torch import save_file

from genie.core.config import UserError
from genie.world import checkpoint, rounding


def there_and_back(weight: torch.Tensor) -> torch.Tensor:
    return rounding.restored(rounding.rounded({"w": weight}, {"w"}))["w"]


@pytest.mark.parametrize("shape", [(1, 40), (12, 5), (6, 3, 2, 2)])
def test_each_row_is_near_to_what_it_was_for_its_own_size(shape):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator)
    weight *= torch.logspace(-3, 2, shape[0]).view(-1, *[1] * (len(shape) - 1))
    back = there_and_back(weight)
    error, largest = ((back - weight).abs(), weight.abs())
    limit = largest.flatten(1).amax(dim=1) / rounding.LARGEST / 2 * (1 + 1 / 8)
    assert (error.flatten(1).amax(dim=1) <= limit * 1.001).all()
    assert torch.equal(back.half().float(), back)  # nothing is lost in float16


def test_rows_of_zeros_and_of_tiny_numbers_stay_what_they_are():
    weight = torch.tensor([[0.0, 0.0], [1e-9, -1e-9], [1.0, -127.0]])
    assert torch.allclose(there_and_back(weight), weight, atol=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_what_8_bits_cannot_hold_is_refused(value):
    with pytest.raises(UserError, match="w: has values"):
        there_and_back(torch.tensor([[1.0, value]]))


def test_other_weights_are_kept_in_float16_where_nothing_is_lost():
    weights = {
        "half": torch.tensor([0.5, 3.0]),
        "full": torch.tensor([0.1]),
        "large": torch.tensor([1e6]),
        "flag": torch.tensor(True),
        "counts": torch.tensor([7]),
    }
    saved = rounding.rounded(weights, set())
    assert saved["half"].dtype == torch.float16
    for name, weight in weights.items():
        assert torch.equal(saved[name].to(weight.dtype), weight)
        assert name == "half" or saved[name].dtype == weight.dtype


INTEGERS = torch.ones(2, 3, dtype=torch.int8)
ODD = {
    "no scales": {"w": INTEGERS},
    "scales of other rows": {"w": INTEGERS, "w.row_scale": torch.ones(3).half()},
    "scales of another type": {"w": INTEGERS, "w.row_scale": torch.ones(2)},
    "scales alone": {"w.row_scale": torch.ones(2).half()},
    "scales of other weights": {"w": INTEGERS.float(), "w.row_scale": torch.ones(2).half()},
    "a number without rows": {
        "w": torch.tensor(1, dtype=torch.int8),
        "w.row_scale": torch.ones(()).half(),
    },
}


@pytest.mark.parametrize("tensors", ODD.values(), ids=ODD)
def test_files_in_which_scales_do_not_fit_are_refused(tensors, tmp_path):
    save_file(tensors, tmp_path / "model.safetensors")
    for read in (checkpoint.read_shapes, checkpoint.read_weights):
        with pytest.raises(UserError, match="cut short or damaged"):
            read(tmp_path)
