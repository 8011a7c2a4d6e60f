import json

import pytest

from genie.world.action_groups import (
    FILE,
    ActionGroup,
    ActionGroups,
    Directions,
    read_groups,
    write_groups,
)


def group(*actions):
    ways = Directions(left=0.0, right=0.9, up=0.1, down=0.0, still=0.0)
    return ActionGroup(actions, "right", "Scrolls left.", 0.9, ways, (2.0, 0.0), True)


GROUPS = ActionGroups(96, 8, 0.0, (group(2, 0), group(1)), ((0.5, 0.9), (0.9, 0.5)))


def test_groups_are_read_as_they_were_written(tmp_path):
    assert write_groups(tmp_path, GROUPS) == tmp_path / FILE
    assert read_groups(tmp_path, 3) == GROUPS.groups
    assert read_groups(tmp_path / "none", 3) == ()
    assert read_groups(None, 3) == ()


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        "{}",
        json.dumps({"groups": [{"actions": []}]}),
        "[" * 100_000,
    ],
)
def test_a_file_that_is_wrong_is_ignored_with_a_warning(text, tmp_path, caplog):
    (tmp_path / FILE).write_text(text)
    assert read_groups(tmp_path, 3) == ()
    assert FILE in caplog.text


@pytest.mark.parametrize("count", [2, 4])
def test_a_file_of_another_world_is_ignored(count, tmp_path, caplog):
    write_groups(tmp_path, GROUPS)
    assert read_groups(tmp_path, count) == ()
    assert "each of" in caplog.text
