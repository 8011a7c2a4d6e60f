"""Do the A buttons lead to different next frames? A variance ratio with a permutation test.

From one state every button is pressed several times with other random numbers. The frames that come
are A groups; their pseudo-F is the variance between groups over that within groups, and dealing the
frames out to the buttons anew says how large it is by chance (PERMANOVA: Anderson 2001, Austral
Ecology 26:32-46).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from genie.core.config import require
from genie.evaluation.protocol.rollouts import OnStep, clip_seeds, ignore_step, rollout

if TYPE_CHECKING:
    from genie.world.genie import Genie
    from genie.world.maskgit import SamplingConfig

MIN_VARIANCE = 1e-9
"""Squares smaller than this share of all of them are rounding."""


@dataclass(frozen=True)
class SeparationConfig:
    """Size of the test.

    Attributes:
        states: held-out states from which every button is pressed; 0 leaves the test out.
        repeats: presses of each button in each state.
        permutations: how often the frames of a state are dealt out to the buttons anew.
    """

    states: int = 32
    repeats: int = 4
    permutations: int = 999

    def __post_init__(self) -> None:
        """Refuses values that leave nothing to compare."""
        require(self.states >= 0, "separation.states: must not be negative")
        require(self.repeats >= 2, "separation.repeats: must be at least 2, or noise is not known")
        require(self.permutations >= 19, "separation.permutations: must be at least 19")


def sample_all_actions(
    world: Genie,
    prompts: UInt8[Tensor, "N P H W C"],
    repeats: int,
    seed: int,
    batch: int,
    sampling: SamplingConfig | None = None,
    on_step: OnStep = ignore_step,
) -> UInt8[Tensor, "N A R H W C"]:
    """Draws the next frame for every button, each time with random numbers of its own.

    Under one seed for all buttons a world that ignores them would draw the same frame A times, and
    frames of different buttons could not be exchanged.
    """
    num_actions = world.config.num_actions
    players = num_actions * repeats
    owner = torch.arange(len(prompts)).repeat_interleave(players)
    action = torch.arange(num_actions).repeat_interleave(repeats).repeat(len(prompts))
    seeds, frames = clip_seeds(seed, 0, len(owner)), []
    for first in range(0, len(owner), batch):
        part = slice(first, first + batch)
        pressed = action[part, None].to(prompts.device)
        frames.append(rollout(world, prompts[owner[part]], pressed, seeds[part], sampling, on_step))
    return torch.cat(frames)[:, 0].unflatten(0, (len(prompts), num_actions, repeats))


def separation(
    frames: UInt8[Tensor, "N A R H W C"], permutations: int = 999, seed: int = 0
) -> dict[str, Any]:
    """Tests whether frames of different buttons differ by more than noise.

    `ratio` is the pseudo-F of all states together: the mean square between buttons over the mean
    square within, each summed over states, about 1 for a world that ignores its buttons.
    `null_95` is what 95 % of permutations stay below and `p` the share of them that reach the
    ratio, the true order counted among them. `share_separated` is the share of states whose own p
    is below 0.05, `explained` the share of all variance that the button explains.

    Args:
        frames: of N states, A buttons and R repeats, as from `sample_all_actions`.
        permutations: within each state.
        seed: of the permutations.
    """
    states, actions, repeats = frames.shape[:3]
    generator = torch.Generator().manual_seed(seed)
    between, total = [], []
    for state in frames:
        squares, everything = _squares(state, permutations, generator)
        between.append(squares)
        total.append(everything)
    sums, all_squares = torch.stack(between), torch.stack(total)
    own = _p_values(sums, all_squares)
    pooled, overall = sums.sum(0, keepdim=True), all_squares.sum(0, keepdim=True)
    least = MIN_VARIANCE * overall.clamp_min(1)
    within = (overall - pooled).clamp_min(least) / (states * actions * (repeats - 1))
    ratios = (pooled / (states * max(1, actions - 1)) / within)[0]
    still = overall.item() == 0
    return {
        "states": states,
        "repeats": repeats,
        "permutations": permutations,
        "ratio": 1.0 if still else ratios[0].item(),
        "null_95": 1.0 if still else ratios[1:].quantile(0.95).item(),
        "p": _p_values(pooled, overall).item(),
        "share_separated": (own < 0.05).double().mean().item(),
        "explained": 0.0 if still else (pooled[0, 0] / overall).item(),
    }


def _squares(
    state: UInt8[Tensor, "A R H W C"], permutations: int, generator: torch.Generator
) -> tuple[Float[Tensor, " orders"], Float[Tensor, ""]]:
    """Sums of squares between buttons, in the true order and in others, and that of all frames."""
    actions, repeats = state.shape[:2]
    rows = state.flatten(0, 1).flatten(1).double().cpu()
    rows = rows - rows.mean(0)
    products = rows @ rows.mT
    count = actions * repeats
    orders = [torch.randperm(count, generator=generator) for _ in range(permutations)]
    groups = torch.stack([torch.arange(count), *orders]).unflatten(1, (actions, repeats))
    # The sum of products within a group is the square of the sum of its rows.
    inside = products[groups[..., :, None], groups[..., None, :]].sum((-3, -2, -1))
    return inside / repeats, products.trace()


def _p_values(
    between: Float[Tensor, "N orders"], total: Float[Tensor, " N"]
) -> Float[Tensor, " N"]:
    reached = between >= between[:, :1] - MIN_VARIANCE * total[:, None].clamp_min(1)
    return reached.double().mean(1)
