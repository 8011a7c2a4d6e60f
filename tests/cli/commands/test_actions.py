import json
import shutil

from failing import fails

from genie.cli import main

SMALL = ["--prompts", "2", "--steps", "2", "--permutations", "19"]


def test_actions_writes_what_each_action_does_into_the_world(capsys, tmp_path, world, store):
    folder = shutil.copytree(world, tmp_path / "world")
    (folder / "names.json").write_text(json.dumps({"names": ["", "go", ""]}))
    assert main.main(["actions", str(folder), "--data", str(store.path), *SMALL]) == 0
    said = capsys.readouterr().out
    assert str(folder / "actions.json") in said
    assert "go" in said
    found = json.loads((folder / "actions.json").read_text())
    assert (found["games"], found["steps"]) == (4, 2)
    assert sorted(a for group in found["groups"] for a in group["actions"]) == [0, 1, 2]


def test_what_it_cannot_measure_is_said(capsys, world, store):
    assert "folder of a world" in fails(capsys, "actions", "coinrun-tiny", "--data", store.path)
    repeats = ["--repeats", "1"]
    assert "repeats" in fails(capsys, "actions", world, "--data", store.path, *repeats)
