"""Strict frozen dataclasses to JSON and back: an unknown key or a wrong type is an error."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from genie.core.renamed_keys import renamed, translated
from genie.core.unions import class_for, kinds_of, names_of, tag_of, without_other_kinds

Device = Literal["cpu", "cuda", "mps"]
"""Where commands run."""
Dtype = Literal["float32", "bfloat16"]
"""Of a world's weights in play."""

Config = TypeVar("Config")

LARGEST = 2**63 - 1
"""Of whole numbers in configurations, as tensors hold them."""

LONGEST = 60
"""Characters of a value in a message."""


class UserError(ValueError):
    """Something the user can put right; the message says how, so no traceback is shown."""


def to_dict(config: Any) -> dict[str, Any]:
    """Returns a configuration as nested plain dicts, ready for JSON.

    Raises:
        UserError: a number is not finite; JSON has no word for it.
    """
    check_finite(config)
    return dataclasses.asdict(config)


def from_dict(cls: type[Config], values: Any, path: str = "") -> Config:
    """Builds a configuration dataclass from nested plain dicts, as read from JSON.

    Args:
        cls: the dataclass to build.
        values: field names to values; fields left out take their defaults.
        path: dotted name of the place where `values` stands, for messages.

    Raises:
        UserError: a key is unknown, a value has the wrong type, or the dataclass refuses the
            combination; the message names the field.
    """
    where = f"{path}." if path else ""
    if not isinstance(values, Mapping):
        known = f"{path or cls.__name__}: expected a mapping, got {shown(values)}"
        raise UserError(known + _part_of(values, cls))
    hints = typing.get_type_hints(cls)
    names = names_of(cls)
    for key in values:
        if key not in names:
            name = str(key)[:LONGEST]
            new = renamed(cls).get(key)
            hint = f", it is now {where}{new}" if new else _suggestion(name, names)
            raise UserError(f"{where}{name}: unknown key{hint}")
    parsed = {key: _parse(hints[key], value, where + key) for key, value in values.items()}
    try:
        return cls(**parsed)
    except UserError as error:
        raise UserError(f"{where}{error}") from None
    except TypeError as error:
        raise UserError(f"{path or cls.__name__}: {error}") from None


def from_record(cls: type[Config], values: Any, path: str = "") -> Config:
    """Builds a configuration from a file that the program wrote: old keys get their new names.

    Raises:
        UserError: as of `from_dict`.
    """
    return from_dict(cls, translated(cls, values), path)


def overridden(config: Config, changes: Mapping[str, Any]) -> Config:
    """Returns a configuration with some of its values replaced.

    Args:
        config: is not changed.
        changes: nested keys and values. A change of kind keeps what both kinds have.

    Raises:
        UserError: as of `from_dict`.
    """
    return from_dict(type(config), _merged(type(config), to_dict(config), changes))


def _merged(cls: Any, values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    result = dict(values)
    for key, change in changes.items():
        old, part = result.get(key), hints.get(key)
        if isinstance(change, Mapping) and isinstance(old, dict):
            if kinds := kinds_of(part):
                tag = tag_of(kinds)
                kind = {tag: change.get(tag, old[tag])}
                old, part = without_other_kinds(kinds, old | kind), class_for(kinds, kind)
            change = _merged(part, old, change) if part else change
        result[key] = change
    return result


def shown(value: Any) -> str:
    """A value for a message, on one line and short: of large objects the type is enough."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return f"a {type(value).__name__}"
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def require(condition: bool, message: str) -> None:
    """Raises `UserError(message)` unless the condition holds; for `__post_init__` checks."""
    if not condition:
        raise UserError(message)


def require_at_most(config: Any, **most: int) -> None:
    """Raises `UserError` for a field above its limit: no machine could build it.

    Args:
        config: the dataclass, of which the message names the field.
        most: the largest value of each field.
    """
    for name, limit in most.items():
        value = getattr(config, name)
        require(value <= limit, f"{name}: {shown(value)} is too large, at most {limit} is possible")


def check_finite(config: Any, path: str = "") -> None:
    """Refuses a configuration in which a number, at any depth, is infinite or not a number.

    Raises:
        UserError: there is one; the message names the field.
    """
    if dataclasses.is_dataclass(config):
        for field in dataclasses.fields(config):
            where = f"{path}.{field.name}" if path else field.name
            check_finite(getattr(config, field.name), where)
    elif isinstance(config, list | tuple):
        for i, value in enumerate(config):
            check_finite(value, f"{path}[{i}]")
    elif isinstance(config, float):
        require(math.isfinite(config), f"{path}: expected a finite number, got {config}")


def _part_of(value: Any, wanted: type) -> str:
    """Advice where a configuration was given that holds the wanted one."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return ""
    names = [field.name for field in dataclasses.fields(value)]
    found = [name for name in names if isinstance(getattr(value, name), wanted)]
    return f"; give its `{found[0]}`" if found else ""


def _suggestion(key: str, names: list[str]) -> str:
    close = difflib.get_close_matches(key, names, n=1)
    return f", did you mean {close[0]!r}?" if close else f"; known keys: {', '.join(names)}"


def _parse(hint: Any, value: Any, path: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, path)  # type: ignore[arg-type]
    if origin is typing.Literal:
        require(value in args, f"{path}: {shown(value)} is not one of {', '.join(map(repr, args))}")
        return value
    if kinds := kinds_of(hint):
        return _parse_kind(kinds, value, path)
    if origin in (typing.Union, types.UnionType):
        return _parse_union(args, value, path)
    if origin is tuple:
        require(isinstance(value, list | tuple), f"{path}: expected a list, got {shown(value)}")
        item_hints = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        require(
            len(item_hints) == len(value),
            f"{path}: expected {len(item_hints)} items, got {shown(value)}",
        )
        return tuple(
            _parse(h, v, f"{path}[{i}]")
            for i, (h, v) in enumerate(zip(item_hints, value, strict=True))
        )
    if isinstance(value, int):
        require(abs(value) <= LARGEST, f"{path}: {shown(value)} is too large")
    if isinstance(value, float):
        check_finite(value, path)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool):
        right = isinstance(value, hint) and not (hint is int and isinstance(value, bool))
        require(right, f"{path}: expected {hint.__name__}, got {shown(value)}")
    return value


def _parse_kind(kinds: Mapping[str, type], value: Any, path: str) -> Any:
    if isinstance(value, tuple(kinds.values())):
        return value
    chosen = class_for(kinds, value)
    if chosen is None:
        names, tag = ", ".join(map(repr, kinds)), tag_of(kinds)
        raise UserError(f"{path}.{tag}: {shown(value[tag])} is not one of {names}")
    return from_dict(chosen, value, path)


def _parse_union(options: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in options:
        return None
    errors: list[str] = []
    for option in options:
        if option is type(None):
            continue
        try:
            return _parse(option, value, path)
        except UserError as error:
            errors.append(str(error))
    raise UserError(errors[-1])
