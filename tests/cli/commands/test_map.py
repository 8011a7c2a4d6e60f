import pytest
import torch
from failing import fails
from toy import made_store

from genie.cli import main
from small import TEAL, save_world


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made_store(tmp_path_factory.mktemp("store"), 4, 2).path


def test_actions_are_mapped_and_played_by_name(data, tmp_path, capsys):
    world = save_world(tmp_path / "world", TEAL)
    command = ["map", str(world), "--data", str(data), "--labels", "40", "--kind", "dictionary"]
    assert main.main([*command, "--repeats", "0"]) == 0
    heard = capsys.readouterr()
    assert f"{world / 'mapper'}: the mapper and report.json" in heard.out
    assert "dictionary, real to latent" in heard.out
    assert "recall of the saved mapper (dictionary): noop" in heard.out
    played = ["generate", str(world), "--out", str(tmp_path / "clip.gif"), "--actions"]
    assert main.main([*played, "left,left,jump"]) == 0
    assert "no action is called 'fly'; this world knows" in fails_after(capsys, *played, "fly")


def fails_after(capsys, *arguments):
    capsys.readouterr()
    return fails(capsys, *arguments)


def test_intervals_stand_beside_figures(data, tmp_path, capsys):
    world = save_world(tmp_path / "world", TEAL)
    torch.manual_seed(0)
    command = ["map", str(world), "--data", str(data), "--labels", "8", "--kind", "dictionary"]
    assert main.main([*command, "--repeats", "2", "--held_out", "20"]) == 0
    said = capsys.readouterr().out
    assert "±" in said
    assert "supervised, sees both frames" in said


def test_a_store_without_true_actions_is_refused(tmp_path, capsys):
    world, plain = save_world(tmp_path / "world", TEAL), tmp_path / "plain"
    made_store(plain, 1, 1, names=None)
    assert "no true actions" in fails(capsys, "map", world, "--data", plain)
