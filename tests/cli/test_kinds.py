from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from genie.cli.kinds import union_paths, with_all_kinds
from genie.cli.parser import Parser


@dataclass(frozen=True)
class Square:
    """A square.

    Attributes:
        kind: "square".
        size: of both.
        side: how long,
            in metres.
    """

    kind: Literal["square"] = "square"
    size: int = 2
    side: int = 1


@dataclass(frozen=True)
class Circle:
    """A circle.

    Attributes:
        kind: "circle".
        size: of both.
        radius: in metres.
    """

    kind: Literal["circle"] = "circle"
    size: int = 3
    radius: float = 1.0


@dataclass(frozen=True)
class Sheet:
    """A sheet.

    Attributes:
        shape: what is on it.
        color: of the shape.
    """

    shape: Square | Circle = field(default_factory=Square)
    color: int = 0


@dataclass(frozen=True)
class Book:
    """A book.

    Attributes:
        sheet: the only one.
    """

    sheet: Sheet = field(default_factory=Sheet)


@dataclass(frozen=True)
class Paper:
    """Paper.

    Attributes:
        medium: "paper".
        shape: what is on it.
    """

    medium: Literal["paper"] = "paper"
    shape: Square | Circle = field(default_factory=Square)


@dataclass(frozen=True)
class Board:
    """A board.

    Attributes:
        medium: "board".
        shape, hole: what is on it, and what is not.
    """

    medium: Literal["board"] = "board"
    shape: Square | Circle = field(default_factory=Square)
    hole: Circle = field(default_factory=lambda: Circle(radius=5.0))


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        ground: what it is on.
    """

    ground: Paper | Board = field(default_factory=Paper)


PLAIN = {"color": 0, "shape": {"kind": "square", "size": 2, "side": 1}}


def parsed(*arguments: str, defaults: dict | None = None, group: str | None = None) -> dict:
    parser = Parser(prog="genie draw")
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(Book, group)
    parser.set_defaults(defaults or {})
    values = parser.parse_args(list(arguments))
    return (values[group] if group else values).as_dict()["sheet"]


def test_a_class_without_a_union_stays_as_it_is():
    assert with_all_kinds(Square) is Square
    assert union_paths(Square) == {}
    assert union_paths(Book, "book") == {"book.sheet.shape": {"square": Square, "circle": Circle}}


def test_only_options_of_the_chosen_kind_are_left():
    assert parsed() == PLAIN
    assert parsed("--sheet.shape.side", "5")["shape"] == {"kind": "square", "size": 2, "side": 5}


@pytest.mark.parametrize("group", [None, "book"])
def test_a_kind_is_chosen_before_or_after_its_options(group):
    start = f"--{group}.sheet.shape" if group else "--sheet.shape"
    options = [f"{start}.kind=circle", f"{start}.radius=2", f"{start}.size=9"]
    wanted = {"kind": "circle", "size": 9, "radius": 2.0}
    assert parsed(*options, group=group)["shape"] == wanted
    assert parsed(*reversed(options), group=group)["shape"] == wanted


def test_a_file_chooses_a_kind_and_options_override_it(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("sheet:\n  shape:\n    kind: circle\n    radius: 4\n")
    assert parsed("--config", str(file))["shape"] == {"kind": "circle", "size": 2, "radius": 4.0}
    found = parsed("--config", str(file), "--sheet.shape.size", "7")["shape"]
    assert found == {"kind": "circle", "size": 7, "radius": 4.0}


def test_defaults_of_another_kind_are_dropped_and_given_options_kept():
    defaults = {"sheet.shape.side": 6, "sheet.shape.size": 8}
    circle = parsed("--sheet.shape.kind", "circle", defaults=defaults)["shape"]
    assert circle == {"kind": "circle", "size": 8, "radius": 1.0}
    wrong = parsed("--sheet.shape.kind", "circle", "--sheet.shape.side", "7")["shape"]
    assert wrong["side"] == 7  # for the check of the configuration to refuse


def drawn(*arguments: str) -> dict:
    parser = Parser(prog="genie draw")
    parser.add_class_arguments(Picture)
    return parser.parse_args(list(arguments)).as_dict()["ground"]


def test_kinds_may_have_parts_that_take_one_of_several_kinds():
    square = {"kind": "square", "size": 2, "side": 1}
    assert drawn() == {"medium": "paper", "shape": square}
    assert set(union_paths(Picture)) == {"ground", "ground.shape"}
    chosen = ["--ground.shape.radius=3", "--ground.medium=board", "--ground.shape.kind=circle"]
    hole = {"kind": "circle", "size": 3, "radius": 5.0}
    shape = {"kind": "circle", "size": 2, "radius": 3.0}
    assert drawn(*chosen) == {"medium": "board", "shape": shape, "hole": hole}
    assert drawn("--ground.hole.size=9")["hole"]["size"] == 9  # for the check to refuse


def test_help_finds_a_description_that_two_fields_share(capsys):
    with pytest.raises(SystemExit):
        drawn("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "{paper,board}" in text
    assert "how long, in metres (only for square)." in text


def test_help_says_which_kinds_use_an_option(capsys):
    with pytest.raises(SystemExit):
        parsed("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "{square,circle}" in text
    assert "square: a square. circle: a circle." in text
    assert "of both. (type: int" in text
    assert "how long, in metres (only for square)." in text
    assert "in metres (only for circle)." in text
    assert "of the shape." in text
