import square_game
from failing import fails
from toy import made_store

from genie.cli import main
from small import TEAL, save_world

QUICK = ["--training.frames", "2", "--training.channels", "[4]", "--training.hidden", "8"]
QUICK += [
    "--progress",
    "false",
    "--training.steps",
    "4",
    "--game.env",
    square_game.SQUARE,
    "--game.levels",
    "2",
]


def test_an_expert_is_cloned(tmp_path, capsys):
    square_game.register()
    data = square_game.expert_store(tmp_path / "store", 6, 2).path
    world = save_world(tmp_path / "world", TEAL)
    command = ["agent", "clone", str(world), "--data", str(data), "--labels", "12", *QUICK]
    command += ["--game.seeds", "1", "--out", str(tmp_path / "mine"), "--decoders", "[head]"]
    assert main.main(command) == 0
    said = capsys.readouterr().out
    for name in ("random play", "oracle", "head", "labels alone", "shuffled, dictionary"):
        assert name in said
    assert f"{tmp_path / 'mine'}: the agent and report.json" in said
    capsys.readouterr()
    assert "labels: 99, but" in fails(capsys, *command, "--labels", "99")
    played = ["agent", "play", tmp_path / "mine", "--env", square_game.SQUARE, "--levels", "2"]
    assert main.main([str(word) for word in played]) == 0
    plain = made_store(tmp_path / "plain", 1, 1, names=None).path
    capsys.readouterr()
    assert "no true actions" in fails(capsys, "agent", "clone", world, "--data", plain, *QUICK)
