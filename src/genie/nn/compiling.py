"""Methods of models through `torch.compile`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

MOST_GRAPHS = 64
"""Numbers of players, over all worlds of a process, for which there can be a graph."""


def compile_method(model: nn.Module, name: str, *args: Any, **options: Any) -> None:
    """Puts a compiled method in place of one, with a graph for each shape of its arguments.

    It belongs to this object: a deep copy of the model would call it with the weights of this one.

    Args:
        model: whose method.
        name: of the method; nothing happens where it is compiled already.
        args, options: of `torch.compile`.
    """
    if name in vars(model):
        return
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_GRAPHS)
    setattr(model, name, torch.compile(getattr(model, name), *args, dynamic=False, **options))
