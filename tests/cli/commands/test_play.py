import pytest
from failing import fails

from genie.cli.main import main


def test_options_reach_the_server(monkeypatch):
    given = []
    monkeypatch.setattr("genie.serving.server.serve", lambda *a, **k: given.append((a, k)))
    assert main(["play"]) == 0
    arguments, options = given.pop()
    assert arguments == ()
    assert (options["host"], options["port"], options["prompts"]) == ("127.0.0.1", 8000, None)
    assert options["dtype"] == "float32"
    assert options["fps"] is None
    assert options["action_names"]
    assert options["limits"] is None
    assert main(["play", "runs/a", "--port", "0", "--prompt", "p.png", "--fps", "9", "--open"]) == 0
    arguments, options = given.pop()
    assert arguments == ("runs/a",)
    assert (options["host"], options["port"], options["prompts"]) == ("127.0.0.1", 0, "p.png")
    assert (options["fps"], options["open_browser"], options["compile"]) == (9.0, True, False)
    assert main(["play", "--compile"]) == 0
    assert given.pop()[1]["limits"].players == 4
    assert main(["play", "runs/a", "--agent", "agents/a"]) == 0
    assert given.pop()[1]["agent"] == "agents/a"


def test_an_agent_plays_a_world_that_is_named(capsys):
    assert "agent: name the world that the agent plays" in fails(capsys, "play", "--agent", "a")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org", "::"])
def test_off_loopback_is_refused(capsys, host):
    assert "this machine only" in fails(capsys, "play", "--host", host)


def test_a_port_is_a_number(capsys):
    assert "port: expected a whole number, got 'x'" in fails(capsys, "play", "--port", "x")
