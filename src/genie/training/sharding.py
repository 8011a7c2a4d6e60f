"""Models whose weights are divided among the processes of a training (FSDP2).

Each block of a transformer is gathered when it is computed and divided again afterwards (Zhao et
al. 2023, arXiv 2304.11277). All other weights of a model are one part, gathered for a whole step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from genie.core.config import require
from genie.models.layers.transformer import SpaceTimeBlock


def mesh_of(processes: DeviceMesh, shard_over: int) -> DeviceMesh:
    """Returns how processes divide a model: among all of them, or among groups of them.

    With groups, each keeps a whole copy of the weights, and gradients are summed over groups
    (HSDP).

    Args:
        processes: all of the training.
        shard_over: processes of a group, neighbours by their number; 0 for all.

    Raises:
        UserError: the processes cannot be divided into such groups.
    """
    count = processes.size()
    if shard_over in (0, count):
        return processes
    require(
        count % shard_over == 0,
        f"train.shard_over: {count} processes cannot be divided into groups of {shard_over}",
    )
    groups = count // shard_over, shard_over
    return init_device_mesh(processes.device_type, groups, mesh_dim_names=("replicate", "shard"))


def sharded_copy(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Returns a copy of a model of which each process keeps a part. Its `loss` gathers weights.

    Args:
        model: whole, the same in all processes.
        mesh: of the processes.
    """
    sharded = copy.deepcopy(model)
    for module in list(sharded.modules()):
        if isinstance(module, SpaceTimeBlock):
            fully_shard(module, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    register_fsdp_forward_method(sharded, "loss")
    return sharded


def own_part(values: Tensor) -> Tensor:
    """Returns the part of a tensor that this process keeps, or a whole tensor as it is."""
    return values.to_local() if isinstance(values, DTensor) else values


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """Returns the whole weights and buffers of a model on the CPU, in all processes."""
    return {
        name: (value.full_tensor() if isinstance(value, DTensor) else value).detach().cpu()
        for name, value in model.state_dict().items()
    }


def all_agree(here: bool) -> bool:
    """Returns whether something holds in all processes, which have to ask together."""
    if not (dist.is_available() and dist.is_initialized()):
        return here
    device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    answer = torch.tensor(int(here), device=device)
    dist.all_reduce(answer, op=dist.ReduceOp.MIN)
    return bool(answer)


def training_state(
    model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Returns the tensors that a resumed run needs, each process its part of them."""
    return {
        "model": get_model_state_dict(model),
        "average": get_model_state_dict(average),
        "optimizer": get_optimizer_state_dict(model, optimizer)["state"],
    }


def restore(
    model: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    load: Callable[[dict[str, Any]], None],
) -> None:
    """Puts saved tensors in place.

    Args:
        model: in training.
        average: of its weights.
        optimizer: new, of the model.
        load: overwrites tensors, such as those of `training_state`.
    """
    groups = get_optimizer_state_dict(model, optimizer)["param_groups"]
    state = training_state(model, average, optimizer)
    load(state)
    set_model_state_dict(model, state["model"])
    set_model_state_dict(average, state["average"])
    saved = {"state": state["optimizer"], "param_groups": groups}
    set_optimizer_state_dict(model, optimizer, saved)


def all_finite(values: Iterable[Tensor]) -> bool:
    """Returns whether all tensors are finite, with the parts that other processes have."""
    return all_agree(all(bool(own_part(value.detach()).isfinite().all()) for value in values))
