from dataclasses import dataclass
from typing import Literal

import pytest

from genie.core.unions import class_for, kinds_of, names_of, tag_of, without_other_kinds


@dataclass(frozen=True)
class A:
    kind: Literal["a"] = "a"
    both: int = 1
    mine: int = 1


@dataclass(frozen=True)
class B:
    kind: Literal["b"] = "b"
    both: int = 1
    yours: int = 1


@dataclass(frozen=True)
class Plain:
    x: int = 1


@dataclass(frozen=True)
class Round:
    shape: Literal["round"] = "round"
    radius: int = 1


@dataclass(frozen=True)
class Square:
    shape: Literal["square"] = "square"
    side: int = 1


KINDS = {"a": A, "b": B}


def test_a_union_of_classes_with_a_kind_has_their_names():
    assert kinds_of(A | B) == KINDS
    assert list(kinds_of(B | A)) == ["b", "a"]


def test_the_first_field_is_the_tag_whatever_it_is_called():
    shapes = kinds_of(Round | Square)
    assert shapes == {"round": Round, "square": Square}
    assert (tag_of(shapes), tag_of(KINDS)) == ("shape", "kind")
    assert class_for(shapes, {"shape": "square", "kind": "round"}) is Square
    assert kinds_of(A | Square) == {}


@pytest.mark.parametrize("hint", [A, int, int | None, A | None, A | Plain, Literal["a"], None])
def test_other_types_have_none(hint):
    assert kinds_of(hint) == {}


@pytest.mark.parametrize(
    ("values", "expected"),
    [({}, A), ({"kind": "b"}, B), ({"kind": "c"}, None), ({"kind": [1]}, None), (3, A)],
)
def test_values_name_their_class(values, expected):
    assert class_for(KINDS, values) is expected


def test_only_keys_of_other_kinds_are_removed():
    values = {"kind": "b", "both": 2, "mine": 3, "yours": 4, "nobody's": 5}
    kept = {"kind": "b", "both": 2, "yours": 4, "nobody's": 5}
    assert without_other_kinds(KINDS, values) == kept
    unknown = values | {"kind": "c"}
    assert without_other_kinds(KINDS, unknown) == unknown


def test_names_are_those_of_the_fields():
    assert names_of(A) == ["kind", "both", "mine"]
