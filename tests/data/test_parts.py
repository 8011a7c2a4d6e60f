import json

import pytest

from genie.core.config import UserError
from genie.data.parts import FILE, StorePart, read_part, write_part
from genie.data.plan import PrepareConfig, PreparePlan

PLAN = PreparePlan(PrepareConfig(fps=10.0), 10.0, ["a.mp4", "b.mp4"], [(3, 7), (4, 8)], "2/2")
CLIPS = [{"offset": 0, "length": 20}, {"offset": 30, "length": 16}]
PART = StorePart(PLAN, {1: {"clips": CLIPS}}, {"odd": "no video"}, {"video files": 2})


def test_what_was_written_is_read(tmp_path):
    write_part(tmp_path, PART)
    assert read_part(tmp_path) == PART
    assert (PART.clips, PART.frames) == (2, 36)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"manifests": 3}'])
def test_a_damaged_part_is_a_sentence(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError, match=r"part\.json: is damaged; make it with"):
        read_part(tmp_path)


def test_none_and_one_of_another_version(tmp_path):
    with pytest.raises(UserError, match="is no finished part of a store"):
        read_part(tmp_path)
    write_part(tmp_path, PART)
    values = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**values, "version": 99}))
    with pytest.raises(UserError, match="another version"):
        read_part(tmp_path)
