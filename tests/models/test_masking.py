import math

import pytest
import torch

from genie.models.masking import (
    MaskRatio,
    corrupt_context,
    sample_mask,
    two_stream_mask,
    with_action_dropout,
)

VOCABULARY, ACTIONS = 12, 3


def test_two_stream_mask_by_hand():
    # Clean frames 0, 1, 2, then masked copies of 1, 2, 3; window 2.
    assert two_stream_mask(4, 2, torch.device("cpu")).int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [1, 0, 0, 1, 0, 0],
        [0, 1, 0, 0, 1, 0],
        [0, 0, 1, 0, 0, 1],
    ]


@pytest.mark.parametrize(
    ("rate", "share"), [("uniform", 0.75), ("cosine", 2 / math.pi), ("linear", 0.5)]
)
def test_masks_have_the_share_of_their_schedule(rate: MaskRatio, share: float):
    masked = sample_mask(torch.zeros(100, 20, 200, dtype=torch.int64), rate)
    assert abs(masked.float().mean() - share) < 0.03
    assert masked.any(dim=-1).all()
    lowest = masked.float().mean(dim=-1).min()
    assert (lowest < 0.02) == (rate != "uniform")


def test_corruption_replaces_the_share_that_the_level_says():
    tokens = torch.randint(0, VOCABULARY, (300, 8, 6))
    level, context = corrupt_context(tokens, VOCABULARY, 0.4, 3)
    wrong = (context != tokens).float().mean(dim=(1, 2))
    for index, share in enumerate((0.0, 0.2, 0.4)):
        expected = share * (1 - 1 / VOCABULARY)
        assert abs(wrong[level == index].mean() - expected) < 0.03
    level, context = corrupt_context(tokens, VOCABULARY, 0.0, 3)
    assert torch.equal(context, tokens)
    assert not level.any()


def dropped(tokens: torch.Tensor, actions: torch.Tensor, **shares: float) -> torch.Tensor:
    shares = {"everywhere": 0.0, "static": 0.0, "hidden": 0.0} | shares
    return with_action_dropout(tokens, actions, ACTIONS, **shares)


def test_random_actions_go_to_a_share_of_all_steps():
    tokens = torch.randint(0, VOCABULARY, (2000, 6, 6))
    actions = torch.zeros(2000, 5, dtype=torch.int64)
    share = (dropped(tokens, actions, everywhere=0.2) != 0).float().mean()
    assert share == pytest.approx(0.2 * (ACTIONS - 1) / ACTIONS, abs=0.03)
    assert torch.equal(dropped(tokens, actions), actions)


def test_random_actions_go_to_a_share_of_the_steps_in_which_nothing_changes():
    tokens = torch.randint(0, VOCABULARY, (2000, 1, 6)).repeat(1, 3, 1)
    tokens[:, 2, 0] = (tokens[:, 2, 0] + 1) % VOCABULARY
    given = dropped(tokens, torch.zeros(2000, 2, dtype=torch.int64), static=0.5)
    assert not given[:, 1].any()
    assert abs((given[:, 0] > 0).float().mean() - 0.5 * (1 - 1 / ACTIONS)) < 0.05


def test_actions_are_hidden_in_a_share_of_the_steps():
    tokens = torch.randint(0, VOCABULARY, (2000, 3, 6))
    actions = torch.randint(0, ACTIONS, (2000, 2))
    given = dropped(tokens, actions, hidden=0.3)
    hidden = given == ACTIONS
    assert abs(hidden.float().mean() - 0.3) < 0.03
    assert torch.equal(given[~hidden], actions[~hidden])
