import importlib.util
import re

import pytest
from failing import fails
from mazes import save_maze_world

from genie.cli import main

pytestmark = pytest.mark.skipif(importlib.util.find_spec("procgen") is None, reason="needs procgen")


def test_goals_are_pursued_and_counted(tmp_path, capsys):
    world, out = save_maze_world(tmp_path / "world"), tmp_path / "planning.json"
    command = ["agent", "plan", str(world), "--out", str(out), "--env", "procgen:maze"]
    sizes = ["--goals", "2", "--samples", "4", "--elites", "2", "--horizon", "3", "--limit", "3"]
    methods = ["--methods", "[random,simulator]"]
    assert main.main([*command, *sizes, *methods]) == 0
    said = capsys.readouterr().out
    assert re.search(r"real simulator: [01]\.\d0 of 2 goals reached \(95 %: 0\.\d\d to ", said)
    assert re.search(r", [+-]\d\.\d\d beside random play \(95 %: ", said)
    assert f"{out}: every goal and these figures" in said
    few = fails(capsys, *command, "--samples", "4")
    assert "elites: 10, but there are only 4 samples" in few
