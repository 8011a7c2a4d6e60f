from functools import wraps

from failing import fails

from genie.cli.main import main
from genie.world import generate


def test_options_reach_the_replay(monkeypatch, capsys):
    given = {}

    @wraps(generate.replay)
    def replay(file, **options):
        given.update(options, file=file)
        return [options["out"]]

    monkeypatch.setattr(generate, "replay", replay)
    assert main(["replay", "a.replay.json", "--out", "a.gif", "--scale", "2"]) == 0
    assert (given["file"], str(given["out"]), given["scale"]) == ("a.replay.json", "a.gif", 2)
    assert capsys.readouterr().out.strip() == "a.gif"


def test_a_replay_that_is_not_there_is_named(capsys, tmp_path):
    assert str(tmp_path / "none.json") in fails(capsys, "replay", tmp_path / "none.json")
