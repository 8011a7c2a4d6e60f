"""Options of fields that take one of several configurations (`genie.core.unions`).

jsonargparse 4.53 cannot read such a field from dotted options or YAML: of `--quantizer.kind fsq
--quantizer.codes 1000` it makes the first class that accepts `codes`. So the parser gets one class
that has the fields of all kinds. After parsing, those that the chosen kind lacks are removed.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from docstring_parser import parse

from genie.core.unions import kinds_of, tag_of, without_other_kinds

if typing.TYPE_CHECKING:
    from jsonargparse import Namespace

Kinds = Mapping[str, Any]


def with_all_kinds(cls: type) -> type:
    """Returns a class with the options of a configuration class and of all kinds in its fields."""
    replaced = []
    for name, hint in _parts(cls):
        part = _widened(hint)
        if part is not hint:
            replaced.append((name, part, dataclasses.field(default_factory=part)))
    if not replaced:
        return cls
    widened = dataclasses.make_dataclass(cls.__name__, replaced, bases=(cls,), frozen=True)
    widened.__doc__ = cls.__doc__
    return widened


def union_paths(cls: type, path: str = "") -> dict[str, Kinds]:
    """Returns the dotted path of each field that takes one of several kinds, with those kinds."""
    found: dict[str, Kinds] = {}
    for name, hint in _parts(cls):
        where = f"{path}.{name}" if path else name
        if kinds := kinds_of(hint):
            found[where] = kinds
        for part in kinds.values() or [hint]:
            found |= union_paths(part, where)
    return found


def remove_other_kinds(options: Namespace, defaults: Namespace, path: str, kinds: Kinds) -> None:
    """Removes options that the chosen kind lacks, unless someone gave them a value.

    Args:
        options: what was parsed; changed in place.
        defaults: values of the options that were not given.
        path: of the field, dotted.
        kinds: the classes it may take. What was given stays, for a check to refuse.
    """
    if path not in options:  # it was part of another kind
        return
    values = options[path].as_dict()
    for key in values.keys() - without_other_kinds(kinds, values).keys():
        where = f"{path}.{key}"
        if options[where] == defaults.get(where):
            del options[where]


def _parts(cls: Any) -> Iterator[tuple[str, Any]]:
    if dataclasses.is_dataclass(cls):
        for name, hint in typing.get_type_hints(cls).items():
            if dataclasses.is_dataclass(hint) or kinds_of(hint):
                yield name, hint


def _widened(hint: Any) -> Any:
    if kinds := kinds_of(hint):
        return _joined(kinds)
    return with_all_kinds(hint) if isinstance(hint, type) else hint


def _joined(kinds: Kinds) -> type:
    """One class with the fields of all kinds. Of fields of one name the first kind's counts."""
    owners: dict[str, list[str]] = {}
    fields = {}
    for kind, cls in kinds.items():
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            fields.setdefault(field.name, _option(field, hints[field.name]))
            owners.setdefault(field.name, []).append(kind)
    tag, default = tag_of(kinds), dataclasses.field(default=next(iter(kinds)))
    fields[tag] = (tag, Literal[tuple(kinds)], default)
    joined = dataclasses.make_dataclass("Kinds", fields.values(), frozen=True)
    joined.__doc__ = _documentation(kinds, owners)
    return joined


def _option(field: dataclasses.Field[Any], hint: Any) -> tuple[str, Any, Any]:
    """The same field for `make_dataclass`, with the options of all kinds in its parts."""
    part = _widened(hint)
    made = field.default_factory if part is hint else part
    if made is dataclasses.MISSING:
        return field.name, hint, dataclasses.field(default=field.default)
    return field.name, part, dataclasses.field(default_factory=made)


def _documentation(kinds: Kinds, owners: Mapping[str, list[str]]) -> str:
    documented = {kind: parse(cls.__doc__ or "") for kind, cls in kinds.items()}
    about = [f"{kind}: {_as_phrase(text.short_description)}." for kind, text in documented.items()]
    tag = tag_of(kinds)
    lines = [f"    {tag}: {' '.join(about)}"]
    for name, used_by in owners.items():
        texts = [
            p.description for p in documented[used_by[0]].params if name in p.arg_name.split(", ")
        ]
        suffix = "" if len(used_by) == len(kinds) else f" (only for {', '.join(used_by)})"
        if name != tag:
            text = " ".join("".join(filter(None, texts)).split())
            lines.append(f"    {name}: {text.removesuffix('.')}{suffix}.")
    return (
        f"One of several kinds, chosen by its `{tag}`.\n\nAttributes:\n" + "\n".join(lines) + "\n"
    )


def _as_phrase(sentence: str | None) -> str:
    words = (sentence or "").removesuffix(".")
    return words[:1].lower() + words[1:]
