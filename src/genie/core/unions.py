"""Tagged unions: fields that take one of several configurations, told apart by a tag.

The tag is the first field of each of them, such as `kind`. Its default is the name of the class.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any


def kinds_of(hint: Any) -> dict[str, type]:
    """Returns the configuration class of each kind, the default one first.

    Args:
        hint: type of a field.

    Returns:
        Nothing for a type that is no union of dataclasses with one tag.
    """
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return {}
    options = typing.get_args(hint)
    if not all(dataclasses.is_dataclass(option) for option in options):
        return {}
    tags = {next(iter(names_of(option)), "") for option in options}
    found = [(getattr(option, tag, None), option) for option in options for tag in tags]
    kinds = {kind: option for kind, option in found if isinstance(kind, str)}
    return kinds if len(kinds) == len(found) == len(options) else {}


def tag_of(kinds: Mapping[str, type]) -> str:
    """Returns the name of the field that tells kinds apart."""
    return names_of(next(iter(kinds.values())))[0]


def class_for(kinds: Mapping[str, type], values: Any) -> type | None:
    """Returns the class that values are meant for; None where they name an unknown kind.

    Args:
        kinds: as `kinds_of` returns.
        values: keys and values; without a tag they are meant for the default one.
    """
    default = next(iter(kinds))
    kind = values.get(tag_of(kinds), default) if isinstance(values, Mapping) else default
    return kinds.get(kind) if isinstance(kind, str) else None


def without_other_kinds(kinds: Mapping[str, type], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values without the keys that only other kinds than theirs have.

    Args:
        kinds: as `kinds_of` returns.
        values: keys and values. A key that no kind has stays, for a check to find.
    """
    own = class_for(kinds, values)
    if own is None:
        return dict(values)
    foreign = {name for each in kinds.values() for name in names_of(each)} - set(names_of(own))
    return {key: value for key, value in values.items() if key not in foreign}


def names_of(cls: Any) -> list[str]:
    """Returns the names of the fields of a configuration class."""
    return [field.name for field in dataclasses.fields(cls) if field.init]
