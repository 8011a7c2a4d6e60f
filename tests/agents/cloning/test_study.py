import pytest
import torch
from torch import nn

from genie.agents.cloning.study import Study
from genie.agents.real_game import Returns
from genie.core.config import UserError


def never():
    raise AssertionError("it is known")


def test_what_is_known_is_not_made_again(tmp_path):
    earned = Returns(torch.tensor([[1.0, 2.0]]), torch.tensor([[3, 4]]))
    network = nn.Linear(2, 2)
    first = Study(tmp_path, {"a": (1, 2)})
    assert first.fact("figure", lambda: {"x": 1.5}) == {"x": 1.5}
    first.games("player", lambda: earned)
    assert first.trained("policy", network, lambda: 0.25) == 0.25
    again, other = Study(tmp_path, {"a": (1, 2)}), nn.Linear(2, 2)
    assert again.fact("figure", never) == {"x": 1.5}
    assert torch.equal(again.games("player", never).returns, earned.returns)
    assert torch.equal(again.games("player", never).lengths, earned.lengths)
    assert again.trained("policy", other, never) == 0.25
    assert torch.equal(other.weight, network.weight)


def test_other_settings_begin_anew(tmp_path):
    Study(tmp_path, {"a": 1}).trained("policy", nn.Linear(2, 2), lambda: 1.0)
    other = Study(tmp_path, {"a": 2})
    assert other.fact("figure", lambda: 7) == 7
    assert other.trained("policy", nn.Linear(2, 2), lambda: 2.0) == 2.0


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write to"):
        Study(tmp_path / "file", {})
