"""The type checks that tests run with: jaxtyping's where there are shapes, else beartype's alone.

jaxtyping's wrapper takes tens of microseconds a call, whether a function has shapes or not. Most
have none, and the plain checks are the same. Where there are shapes, a call is checked once for
each combination of types and shapes. A step of a toy world then takes 5 ms instead of 8.
"""

import functools
import inspect
import types
from collections import defaultdict
from collections.abc import Hashable
from typing import Any, get_args, get_type_hints

import jaxtyping
import numpy as np
import torch
from beartype import BeartypeConf, beartype

# Integers may stand where floats are expected.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def install() -> None:
    """Checks all functions of genie that are imported from now on."""
    jaxtyping.jaxtyped = functools.partial(_decorated, jaxtyping.jaxtyped)
    jaxtyping.install_import_hook("genie", "shapes.checked")


def _decorated(jaxtyped: Any, *, typechecker: Any) -> Any:
    def decorate(target: Any) -> Any:
        if not inspect.isfunction(target) or hasattr(target, "__no_type_check__"):
            return jaxtyped(target, typechecker=typechecker)
        hints = _hints(target)
        if any(map(_has_shape, hints.values())):
            return _checked_once(target, functools.partial(jaxtyped, typechecker=typechecker))
        if "<locals>" in target.__qualname__:  # made again at each call of the outer function
            return _checked_once(target, functools.partial(_checked, hints=hints))
        return _checked(target, hints)

    return decorate


_hints_of: dict[Hashable, dict[str, Any]] = {}


def _place(function: types.FunctionType) -> Hashable:
    """The same for a function within a function each time that it is made."""
    return function.__code__.co_filename, function.__code__


def _hints(function: types.FunctionType) -> dict[str, Any]:
    place, annotations = _place(function), function.__annotations__.items()
    if place not in _hints_of:
        _hints_of[place] = {name: _resolved(hint, function) for name, hint in annotations}
    return _hints_of[place]


def _resolved(hint: Any, function: types.FunctionType) -> Any:
    """What an annotation means; anything where its names are known to type checkers only."""

    def holder() -> None: ...

    holder.__annotations__ = {"value": hint}
    try:
        return get_type_hints(holder, function.__globals__, include_extras=True)["value"]
    except Exception:  # as jaxtyping does
        return Any


def _has_shape(hint: Any) -> bool:
    is_array = inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)
    return is_array or any(map(_has_shape, get_args(hint)))


def _checked(function: types.FunctionType, hints: dict[str, Any]) -> Any:
    twin = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    functools.update_wrapper(twin, function)
    del twin.__wrapped__
    twin.__kwdefaults__, twin.__annotations__ = function.__kwdefaults__, hints
    return functools.update_wrapper(checked(twin), function)


MAX_LENGTH = 32
"""Longer tuples, lists and dictionaries are checked at each call."""


_seen: defaultdict[Hashable, dict[Hashable, set[Hashable]]] = defaultdict(dict)
"""Signatures of arguments and of results, for each function."""


def _checked_once(function: types.FunctionType, check: Any) -> Any:
    """Checks arguments and result where their types and shapes were not yet seen together."""
    seen = _seen[_place(function)]

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        given = _signature((args, kwargs))
        if given in seen:
            result = function(*args, **kwargs)
            if _signature(result) not in seen[given]:
                check(_echo(function, result))(*args, **kwargs)
        else:
            result = check(function)(*args, **kwargs)
        seen.setdefault(given, set()).add(_signature(result))
        return result

    return wrapper


def _signature(value: Any) -> Hashable:
    """All that a check depends on: types, shapes and short constants."""
    kind = type(value)
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return kind, value.shape, value.dtype
    if kind in (str, bool) or value is None:
        return kind, value
    if isinstance(value, (tuple, list, dict, set, frozenset)):
        if len(value) > MAX_LENGTH:
            return object()
        parts = value.items() if isinstance(value, dict) else value
        return kind, *map(_signature, parts)
    return kind


def _echo(function: types.FunctionType, result: Any) -> Any:
    """A function that is annotated as another one and returns what that one did."""

    def echo(*_: Any, **__: Any) -> Any:
        return result

    twin = types.FunctionType(echo.__code__, function.__globals__, closure=echo.__closure__)
    return functools.update_wrapper(twin, function)
