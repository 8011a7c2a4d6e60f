"""What steps of imagined games are worth."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def lambda_returns(
    rewards: Float[Tensor, "b steps"],
    discounts: Float[Tensor, "b steps"],
    values: Float[Tensor, "b moments"],
    lam: float,
) -> Float[Tensor, "b steps"]:
    """Returns the lambda-returns of steps (Sutton and Barto 2018, chapter 12).

    The return of step t is r_t + d_t ((1 - lambda) v_{t+1} + lambda R_{t+1}), and after the last
    step it is the value.

    Args:
        rewards: of the steps.
        discounts: of what comes after each step; 0 where the game ends.
        values: of the moments before each step and after the last.
        lam: 0 trusts the value of the next moment, 1 the rewards up to the last step.
    """
    found, after = [], values[:, -1]
    for t in reversed(range(rewards.shape[1])):
        after = rewards[:, t] + discounts[:, t] * ((1 - lam) * values[:, t + 1] + lam * after)
        found.append(after)
    return torch.stack(found[::-1], dim=1)
