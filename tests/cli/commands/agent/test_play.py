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
