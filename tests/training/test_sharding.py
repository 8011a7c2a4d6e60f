import pytest
import torch
import torch.distributed as dist

from genie.training.sharding import all_agree, all_finite, own_part, whole_state


def test_a_whole_tensor_is_its_own_part():
    values = torch.ones(3)
    assert own_part(values) is values
    layer = torch.nn.Linear(2, 2)
    assert torch.equal(whole_state(layer)["weight"], layer.weight)


@pytest.mark.parametrize(("here", "elsewhere", "all_of_them"), [(True, True, True),
    (True, False, False), (False, True, False)])  # fmt: skip
def test_something_holds_where_it_holds_in_all_processes(here, elsewhere, all_of_them, monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_backend", lambda: "gloo")
    monkeypatch.setattr(dist, "all_reduce", lambda mine, op: mine.clamp_(max=int(elsewhere)))
    assert all_agree(here) is all_of_them


@pytest.mark.parametrize("value", [1.0, float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_found(value):
    assert all_finite([torch.ones(2), torch.tensor([0.0, value])]) is (value == 1.0)
