import json

import pytest

from genie.core.config import UserError
from genie.world import bundled
from genie.world.action_names import FILE, parse_names, read_names, writable_folder, write_names


def test_names_are_written_and_read(tmp_path):
    assert read_names(tmp_path, 2) == read_names(None, 2) == ["", ""]
    write_names(tmp_path, ["links", "höher"])
    assert read_names(tmp_path, 2) == ["links", "höher"]
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize(
    "text", ["", "{", '{"names": ["a"]}', '{"names": [1, 2]}', "[]", "[" * 100_000, "\ud800"]
)
def test_a_damaged_file_is_ignored(tmp_path, text, caplog):
    (tmp_path / FILE).write_bytes(text.encode(errors="surrogatepass"))
    assert read_names(tmp_path, 2) == ["", ""]
    assert FILE in caplog.text


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a"], "has 2 actions, not 1"),
        (["a"] * 3, "not 3"),
        (["a", "b" * 21], "at most 20"),
        (["a", "b\nc"], "line breaks"),
        (["a", 1], "expected JSON"),
        ("ab", "expected JSON"),
    ],
)
def test_names_that_do_not_fit_are_refused(names, words):
    with pytest.raises(UserError, match=words):
        parse_names(json.dumps({"names": names}).encode(), 2)
    with pytest.raises(UserError):
        parse_names(b'{"names":["a","b"],"more":1}', 2)


def test_names_are_stripped():
    assert parse_names(b'{"names":["  left ", " "]}', 2) == ["left", ""]


def test_bundled_worlds_and_worlds_of_the_hub_are_not_writable(tmp_path):
    assert writable_folder(tmp_path) == tmp_path
    assert writable_folder(bundled.DEFAULT) is None
    assert writable_folder(bundled.folder_of(bundled.DEFAULT)) is None
    assert writable_folder("someone/world") is None
