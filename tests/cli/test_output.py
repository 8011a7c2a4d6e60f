import os
import sys

import pytest

from genie.cli.output import Unbreakable, unbreakable_output


@pytest.fixture
def closed():
    """A stream whose reader has gone."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        yield stream


def test_a_closed_pipe_swallows_what_is_written(closed):
    stream = Unbreakable(closed)
    for _ in range(3):
        assert stream.write("a" * 100_000) == 100_000
        stream.writelines(["a\n", "b\n"])
        stream.flush()


def test_all_else_is_that_of_the_stream(tmp_path):
    with (tmp_path / "a.txt").open("w", encoding="utf-8") as file:
        stream = Unbreakable(file)
        assert not stream.isatty()
        assert stream.encoding == "utf-8"
        stream.writelines(["a", "b"])
    with pytest.raises(ValueError, match="closed file"):
        stream.write("c")
    assert (tmp_path / "a.txt").read_text() == "ab"


def test_both_outputs_are_guarded_and_given_back(closed, monkeypatch):
    monkeypatch.setattr(sys, "stdout", closed)
    with unbreakable_output():
        print("a" * 100_000)
        print("a", file=sys.stderr)
    assert sys.stdout is closed
