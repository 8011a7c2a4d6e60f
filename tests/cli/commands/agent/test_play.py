import re

import square_game
from failing import fails
from toy import NAMES

from genie.agents.agent import Agent, AgentConfig
from genie.cli import main
from genie.models.policy_network import PolicyNetworkConfig

SIZE = PolicyNetworkConfig(16, 16, 2, (4,), 8, real_actions=4)


def test_an_agent_is_measured_in_the_real_game(tmp_path, capsys):
    square_game.register()
    Agent(AgentConfig(SIZE, NAMES)).save_pretrained(tmp_path / "mine")
    command = ["agent", "play", str(tmp_path / "mine"), "--env", square_game.SQUARE]
    assert main.main([*command, "--levels", "4", "--seeds", "1"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"agent: mean return [12]\.\d\d \(95 %: ", said)
    assert "random play: mean return" in said
    assert "6 steps a game" in said
    assert "levels: must be at least 1" in fails(capsys, *command, "--levels", "0")
    assert "no such folder of an agent" in fails(capsys, "agent", "play", tmp_path / "none")


def test_dream_and_real_game_are_seen_side_by_side(tmp_path, monkeypatch, capsys):
    Agent(AgentConfig(SIZE, NAMES)).save_pretrained(tmp_path / "mine")
    given = []

    def write(*arguments, **options):
        given.append((arguments, options))
        return arguments[2]

    monkeypatch.setattr("genie.agents.side_by_side.write_side_by_side", write)
    command = ["agent", "play", str(tmp_path / "mine"), "--video", "both.gif"]
    assert "name the world that dreams" in fails(capsys, *command)
    command += ["--world", "runs/a"]
    assert "video_steps: must be at least 1" in fails(capsys, *command, "--video_steps", "0")
    assert main.main([*command, "--video_games", "2", "--first_level", "7"]) == 0
    assert "both.gif: the dream on the left" in capsys.readouterr().out
    ((_, world, video, game), options) = given.pop()
    assert (world, video, game.first_level) == ("runs/a", "both.gif", 7)
    assert options == {"games": 2, "steps": 60, "seed": 0}
