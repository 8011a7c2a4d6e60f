"""The type checks that tests run with: jaxtyping's where there are shapes, else beartype's alone.

jaxtyping's wrapper takes tens of microseconds a call, whether a function has shapes or not. Most
have none, and the plain checks are the same.
"""

import functools
import inspect
import types
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

# Integers may stand where floats are expected.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def install() -> None:
    """Checks all functions of genie that are imported from now on."""
    jaxtyping.jaxtyped = functools.partial(_decorated, jaxtyping.jaxtyped)
    jaxtyping.install_import_hook("genie", "shapes.checked")


def _decorated(jaxtyped: Any, *, typechecker: Any) -> Any:
    def decorate(target: Any) -> Any:
        if inspect.isfunction(target) and not hasattr(target, "__no_type_check__"):
            hints = {name: _resolved(hint, target) for name, hint in target.__annotations__.items()}
            if not any(map(_has_shape, hints.values())):
                return _checked(target, hints)
        return jaxtyped(target, typechecker=typechecker)

    return decorate


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
