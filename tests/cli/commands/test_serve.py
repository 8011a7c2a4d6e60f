from failing import fails

from genie.cli.main import main
from genie.serving.limits import Limits
from genie.world import bundled


def test_options_reach_the_server(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr("genie.serving.server.serve", lambda *a, **k: given.append((a, k)))
    monkeypatch.delenv("GENIE_TOKEN", raising=False)
    assert main(["serve", "--limits.players", "3"]) == 0
    worlds, options = given.pop()
    assert worlds == (bundled.DEFAULT,)
    assert options["limits"] == Limits(players=3)
    assert options["token"] is None


def test_the_token_comes_from_a_file_or_from_the_environment(monkeypatch, tmp_path):
    tokens = []
    serving = "genie.serving.server.serve"
    monkeypatch.setattr(serving, lambda *_, **options: tokens.append(options["token"]))
    monkeypatch.setenv("GENIE_TOKEN", "from the environment")
    (tmp_path / "token").write_text("from a file\n")
    assert main(["serve", "a", "b"]) == 0
    assert main(["serve", "--token-file", str(tmp_path / "token")]) == 0
    assert tokens == ["from the environment", "from a file"]


def test_a_limit_under_its_old_name_is_refused_with_the_new_one(capsys):
    said = fails(capsys, "serve", "--limits.generations", "2")
    assert said == "--limits.generations: unknown option, it is now --limits.concurrent_clips"


def test_a_token_file_that_is_not_there_is_named(capsys, tmp_path):
    said = fails(capsys, "serve", "--token-file", tmp_path / "token")
    assert said == f"{tmp_path / 'token'}: there is no such file or folder"
