import json
from dataclasses import dataclass, field
from typing import Literal

import pytest

from genie.core.config import (
    UserError,
    check_finite,
    from_dict,
    overridden,
    require,
    require_at_most,
    to_dict,
)


@dataclass(frozen=True)
class Inner:
    layers: int = 2
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1, 2)

    def __post_init__(self) -> None:
        require(self.layers >= 1, "layers: must be at least 1")


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    rate: float = 0.5
    name: str | None = None


def test_there_and_back_through_json():
    config = Outer(Inner(3, "b", (4,)), 1.0, "x")
    assert from_dict(Outer, json.loads(json.dumps(to_dict(config)))) == config


def test_an_integer_may_stand_for_a_float():
    assert from_dict(Outer, {"rate": 1}).rate == 1.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"layerz": 1}}, "inner.layerz: unknown key, did you mean 'layers'"),
        ({"inner": {"layers": 0}}, "inner.layers: must be at least 1"),
        ({"inner": {"layers": "two"}}, "inner.layers: expected int, got 'two'"),
        ({"inner": {"layers": True}}, "inner.layers: expected int"),
        ({"inner": {"kind": "c"}}, "inner.kind: 'c' is not one of 'a', 'b'"),
        ({"inner": {"sizes": 3}}, "inner.sizes: expected a list"),
        ({"inner": 3}, "inner: expected a mapping"),
        ({"name": 3}, "name: expected str"),
        ({"completely": 3}, "completely: unknown key; known keys: inner, rate, name"),
    ],
)
def test_refusals_name_the_field(values: dict, message: str):
    with pytest.raises(UserError, match=message):
        from_dict(Outer, values)


def test_a_refused_value_is_shown_in_short():
    @dataclass(frozen=True)
    class Holder:
        about: str = "x"
        outer: Outer = field(default_factory=Outer)

    said = "^Outer: expected a mapping, got a Holder; give its `outer`$"
    with pytest.raises(UserError, match=said):
        from_dict(Outer, Holder())
    with pytest.raises(UserError) as error:
        from_dict(Outer, {"rate": ["long"] * 1000})
    assert len(str(error.value)) < 100


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_wherever_they_stand(number: float):
    text = json.dumps({"rate": number})
    with pytest.raises(UserError, match=r"^rate: expected a finite number, got (nan|-?inf)$"):
        from_dict(Outer, json.loads(text))
    for check in (check_finite, to_dict):
        with pytest.raises(UserError, match=r"^rate: expected a finite number"):
            check(Outer(rate=number))
    with pytest.raises(UserError, match=r"^inner\.sizes\[1\]: expected a finite number"):
        check_finite(Outer(Inner(sizes=(1, number))))  # type: ignore[arg-type]


def test_whole_numbers_that_no_tensor_holds_are_refused():
    for values in ({"inner": {"layers": 10**400}}, {"rate": -(10**400)}):
        with pytest.raises(UserError, match=r"is too large$"):
            from_dict(Outer, values)


def test_limits_name_the_field_and_the_most():
    require_at_most(Inner(7), layers=7)
    with pytest.raises(UserError, match=r"^layers: 8 is too large, at most 7 is possible$"):
        require_at_most(Inner(8), layers=7)


def test_keys_of_any_kind_are_refused():
    for key in (1, None, "x" * 10_000):
        with pytest.raises(UserError, match="unknown key") as error:
            from_dict(Outer, {key: 1})
        assert len(str(error.value)) < 200


@dataclass(frozen=True)
class Square:
    kind: Literal["square"] = "square"
    size: int = 2
    side: int = 1


@dataclass(frozen=True)
class Circle:
    kind: Literal["circle"] = "circle"
    size: int = 3
    radius: float = 1.0


@dataclass(frozen=True)
class Drawing:
    shape: Square | Circle = field(default_factory=Square)
    outer: Outer = field(default_factory=Outer)


@pytest.mark.parametrize("shape", [Square(side=4), Circle(radius=2.5)])
def test_one_of_several_kinds_comes_back_from_json(shape: Square | Circle):
    config = Drawing(shape)
    assert from_dict(Drawing, json.loads(json.dumps(to_dict(config)))) == config
    assert from_dict(Drawing, {"shape": shape}) == config


def test_a_missing_kind_is_the_default_one():
    assert from_dict(Drawing, {"shape": {"side": 7}}).shape == Square(side=7)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"kind": "line"}, "shape.kind: 'line' is not one of 'square', 'circle'"),
        ({"kind": ["square"]}, "shape.kind: .'square'. is not one of"),
        ({"kind": "circle", "side": 1}, "shape.side: unknown key"),
        ({"kind": "circle", "size": "x"}, "shape.size: expected int, got 'x'"),
        (3, "shape: expected a mapping"),
    ],
)
def test_wrong_values_of_a_kind_are_refused(shape: object, message: str):
    with pytest.raises(UserError, match=message):
        from_dict(Drawing, {"shape": shape})


def test_values_are_replaced_at_any_depth():
    config = Drawing(Square(size=5, side=7))
    assert overridden(config, {}) == config
    assert overridden(config, {"outer": {"inner": {"layers": 9}}}).outer.inner == Inner(9)
    assert overridden(config, {"shape": {"side": 8}}).shape == Square(size=5, side=8)
    with pytest.raises(UserError, match=r"outer\.inner\.layerz: unknown key"):
        overridden(config, {"outer": {"inner": {"layerz": 9}}})


def test_another_kind_keeps_what_both_have():
    config = Drawing(Square(size=5, side=7))
    changes = {"shape": {"kind": "circle", "radius": 2}}
    assert overridden(config, changes).shape == Circle(size=5, radius=2.0)
    with pytest.raises(UserError, match=r"shape\.side: unknown key"):
        overridden(config, {"shape": {"kind": "circle", "side": 7}})
    with pytest.raises(UserError, match=r"shape\.kind: 'line'"):
        overridden(config, {"shape": {"kind": "line"}})
