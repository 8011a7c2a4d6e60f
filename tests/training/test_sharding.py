from unittest.mock import Mock

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from genie.core.config import UserError
from genie.training import sharding
from genie.training.sharding import all_agree, all_finite, mesh_of, own_part, whole_state


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


def test_processes_are_divided_into_groups_of_one_size(monkeypatch):
    processes, groups = Mock(spec=DeviceMesh, device_type="cpu"), Mock(spec=DeviceMesh)
    processes.size.return_value = 6
    assert mesh_of(processes, 0) is processes
    assert mesh_of(processes, 6) is processes
    monkeypatch.setattr(sharding, "init_device_mesh", made := Mock(return_value=groups))
    assert mesh_of(processes, 2) is groups
    made.assert_called_once_with("cpu", (3, 2), mesh_dim_names=("replicate", "shard"))
    with pytest.raises(UserError, match="6 processes cannot be divided into groups of 4"):
        mesh_of(processes, 4)
