"""Compiling single methods of models with `torch.compile`."""

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
"""Limit of graphs per method, over all worlds of a process. Each batch size has one, and another
one for MaskGIT steps that sample a single token."""
CUDA_GRAPHS = ("reduce-overhead", "max-autotune")
"""Modes in which a GPU overwrites the last result with the next one."""


def compile_method(
    model: nn.Module, name: str, *args: Any, dynamic_argument: int | None = None, **options: Any
) -> None:
    """Replaces a method by a compiled one, with a graph for each shape of its arguments.

    The compiled method belongs to this object. A deep copy of the model would call it with the
    weights of this one.

    Args:
        model: that has the method.
        name: of the method; a method that is compiled already stays as it is.
        dynamic_argument: index of an argument, a tensor (B, n); one graph takes any n > 1.
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
    """Checks that there is a C++ compiler, which compiling for a CPU needs.

    Raises:
        UserError: there is no compiler; the message says what to install.
    """
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    require(
        shutil.which(os.environ.get("CXX", usual)) is not None,
        f"compile: there is no C++ compiler; install {usual} (on Debian: apt-get install g++) or "
        "name one in the environment variable CXX, or play without it",
    )


def graph_break(function: Callable[..., Result], *values: Any) -> Result:
    """Calls a function outside of any compiled graph; a graph ends before it.

    `torch.compiler.disable` as a decorator would import the compiler together with this package.

    Args:
        function: to be called.
        values: its arguments.
    """
    if torch.compiler.is_compiling():
        function = cast("Callable[..., Result]", torch.compiler.disable(function))
    return function(*values)


def _copied(results: Any) -> Any:
    """Copies a tensor, a tuple of results or a dataclass of them into memory of its own."""
    if isinstance(results, Tensor):
        return results.clone()
    if isinstance(results, tuple):
        return tuple(_copied(result) for result in results)
    parts = {part.name: _copied(getattr(results, part.name)) for part in fields(results)}
    return replace(results, **parts)
