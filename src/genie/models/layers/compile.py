"""Methods of models through `torch.compile`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from genie.core.config import require

Result = TypeVar("Result")

MAX_GRAPHS = 64
"""Graphs of one method, over all worlds of a process: one for each number of players, and another
where a pass settles a single token."""
CUDA_GRAPHS = ("reduce-overhead", "max-autotune")
"""Modes in which a GPU writes each result where the last one stood."""


def compile_method(
    model: nn.Module, name: str, *args: Any, dynamic_argument: int | None = None, **options: Any
) -> None:
    """Puts a compiled method in place of one, with a graph for each shape of its arguments.

    It belongs to this object: a deep copy of the model would call it with the weights of this one.

    Args:
        model: whose method.
        name: of the method; nothing happens where it is compiled already.
        varying: index of an argument, a tensor (B, n), of which one graph takes any n > 1.
        args, options: of `torch.compile`.
    """
    if name in vars(model):
        return
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MAX_GRAPHS)
    compiled = torch.compile(getattr(model, name), *args, dynamic=False, **options)
    graphs = (options.get("options") or {}).get("triton.cudagraphs", False)
    overwrites = graphs or options.get("mode") in CUDA_GRAPHS

    def call(*values: Any) -> Any:
        if dynamic_argument is not None:
            torch._dynamo.maybe_mark_dynamic(values[dynamic_argument], 1)
        results = compiled(*values)
        return _copied(results) if overwrites else results

    setattr(model, name, call)


def require_compiler() -> None:
    """Refuses to compile for a CPU where there is no C++ compiler.

    Raises:
        UserError: there is none; the message says what to install.
    """
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    require(
        shutil.which(os.environ.get("CXX", usual)) is not None,
        f"compile: there is no C++ compiler; install {usual} (on Debian: apt-get install g++) or "
        "name one in the environment variable CXX, or play without it",
    )


def graph_break(function: Callable[..., Result], *values: Any) -> Result:
    """Calls what no graph should hold; a graph ends before it.

    `torch.compiler.disable` as a decorator would import the compiler together with this package.
    """
    if torch.compiler.is_compiling():
        function = cast("Callable[..., Result]", torch.compiler.disable(function))
    return function(*values)


def _copied(results: Any) -> Any:
    """The same in memory of its own: a tensor, a tuple of results, or a dataclass of them."""
    if isinstance(results, Tensor):
        return results.clone()
    if isinstance(results, tuple):
        return tuple(_copied(result) for result in results)
    parts = {part.name: _copied(getattr(results, part.name)) for part in fields(results)}
    return replace(results, **parts)
