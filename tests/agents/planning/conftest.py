"""Goals in mazes of Procgen, where every move is one cell."""

import importlib.util

import pytest

if importlib.util.find_spec("procgen") is None:
    collect_ignore = [
        "test_goals.py", "test_procgen_states.py", "test_pursuit.py", "test_simulators.py",
        "test_study.py",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def maze_goals():
    from genie.agents.planning.goals import GoalConfig, make_goals

    config = GoalConfig(
        "procgen:maze", goals=3, before=2, steps=6, num_envs=8, sticky_action_prob=0.3,
        actions=("left", "right", "up", "down"),
    )  # fmt: skip
    return config, make_goals(config, history=3)
