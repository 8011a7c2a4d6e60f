import json

import pytest
from mazes import MOVES, save_maze_world

from genie.agents.planning import study
from genie.agents.planning.study import plan_to_goals, summary, wilson
from genie.core.config import UserError
from small import save_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return save_maze_world(tmp_path_factory.mktemp("plan") / "world")


SIZES = {
    "env": "procgen:maze", "actions": MOVES, "goal_steps": 5, "samples": 2, "elites": 1,
    "horizon": 2, "executed": 2, "limit": 2, "device": "cpu", "progress": False,
}  # fmt: skip


def test_every_method_pursues_every_goal_once_and_more_goals_are_added(
    world, tmp_path, monkeypatch
):
    out = tmp_path / "planning.json"
    first = plan_to_goals(world, out=out, goals=1, **SIZES)
    assert list(first["methods"]) == list(study.get_args(study.Method))
    pursued, real = [], study.pursue

    def counted(goal, *rest):
        pursued.append(goal.level)
        return real(goal, *rest)

    monkeypatch.setattr(study, "pursue", counted)
    both = plan_to_goals(world, out=out, goals=2, **SIZES)
    (done,) = first["goals"]
    assert both["goals"][done] == first["goals"][done]
    (new,) = set(both["goals"]) - {done}
    assert pursued == [int(new)] * 6
    assert both == json.loads(out.read_text("utf-8"))
    for found in both["methods"].values():
        assert found["goals"] == 2
        assert 0 <= found["reached"]["low"] <= found["reached"]["mean"] <= found["reached"]["high"]
    settings = both["settings"]
    named_before = {"passes" if key == "steps" else key: settings[key] for key in settings}
    out.write_text(json.dumps(both | {"settings": named_before}))
    assert plan_to_goals(world, out=out, goals=2, **SIZES) == both
    assert len(pursued) == 6


def test_what_cannot_be_planned_is_said(world, tmp_path):
    out = tmp_path / "planning.json"
    plan_to_goals(world, out=out, goals=1, **SIZES, methods=["random"])
    with pytest.raises(UserError, match=r"results of other settings; give another file as out"):
        plan_to_goals(world, out=out, goals=1, **SIZES | {"limit": 3}, methods=["random"])
    with pytest.raises(UserError, match="planning needs a game whose states can be saved"):
        plan_to_goals(world, out=out, **SIZES | {"env": "gym:CartPole-v1"})
    bare = save_world(tmp_path / "bare", height=64, width=64)
    with pytest.raises(UserError, match="there is no mapper here; make one with `genie map`"):
        plan_to_goals(bare, out=out, **SIZES)


def line(**shares):
    return {name: {"reached": share, "nearest": 1 - share} for name, share in shares.items()}


def test_figures_are_shares_of_goals_beside_random_play_on_the_same_goals():
    goals = [line(latent=1.0, random=0.25), line(latent=0.0, random=0.25), line(random=1.0)]
    found = summary(goals)
    assert list(found) == ["latent", "random"]
    assert found["latent"]["goals"] == 2
    assert found["latent"]["reached"]["mean"] == found["latent"]["nearest"] == 0.5
    assert found["random"]["reached"]["mean"] == 0.5
    assert found["latent"]["above_random"] == {"mean": 0.25, "low": -0.25, "high": 0.75}
    assert "above_random" not in found["random"]


def test_intervals_are_those_of_wilson():
    """Figures of Newcombe 1998, table I, and nothing sure from few trials."""
    found = wilson(81 / 263, 263)
    assert (round(found["low"], 4), round(found["high"], 4)) == (0.2553, 0.3662)
    assert wilson(0.0, 20)["low"] == 0.0
    assert round(wilson(0.0, 20)["high"], 4) == 0.1611
