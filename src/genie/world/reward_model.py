"""What a step of a world earns and whether it ends the episode, learned from real episodes.

A reward model lies beside its world, in the folder `reward`: `config.json`, `model.safetensors` and
`report.json`. It holds the hash of its world. `genie train --stages [reward]` makes one.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genie.core.config import from_record, require, to_dict
from genie.models.reward_heads import RewardHeads, RewardHeadsConfig
from genie.world import rng
from genie.world.checkpoint import Part
from genie.world.replay import world_hash

if TYPE_CHECKING:
    from genie.world.genie import Genie
    from genie.world.state import State

FOLDER = "reward"
"""Of a reward model, inside the folder of its world."""
PART = Part(
    "a reward model",
    "genie train --from WORLD --data STORE --stages '[reward]' --out WORLD",
    "genie-reward",
)
END_KEY = 2**20
"""What is added to a game's key to sample its end. MaskGIT steps use lower numbers."""


@dataclass(frozen=True)
class RewardModelConfig:
    """What a reward model is, as its `config.json` says.

    Attributes:
        heads: their sizes.
        world: hashes of the world, one for each type of its weights.
    """

    heads: RewardHeadsConfig
    world: tuple[str, ...] = ()


def hashes(world: Genie) -> tuple[str, ...]:
    """Returns the hashes of a world as it is and with weights in bfloat16.

    Args:
        world: as it was loaded in float32.
    """
    return world_hash(world), world_hash(deepcopy(world).to(torch.bfloat16))


class RewardModel(nn.Module):
    """Says what steps earn, and samples whether they end the episode.

    Args:
        config: what it is.
        heads: on the features of the world's dynamics; new ones when left out.
    """

    def __init__(self, config: RewardModelConfig, heads: RewardHeads | None = None):
        super().__init__()
        self.config = config
        self.heads = heads if heads is not None else RewardHeads(config.heads)

    @classmethod
    def from_pretrained(cls, folder: str | Path, world: Genie | None = None) -> RewardModel:
        """Loads a reward model.

        Args:
            folder: of the reward model, or of a world that has one beside it.
            world: that it is used with, on whose device it is put. None does not check that it is
                the model's own.

        Raises:
            UserError: there is no reward model, it is damaged, or it belongs to another world.
        """
        inside = Path(folder) / FOLDER
        folder = inside if inside.is_dir() else Path(folder)
        model = cls(from_record(RewardModelConfig, PART.read_config(folder)))
        PART.load(folder, model)
        if world is not None:
            model.require_world(world)
            model = model.to(world.device)
        return model.eval().requires_grad_(False)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes `config.json` and `model.safetensors` into a folder.

        Raises:
            UserError: the folder cannot be written; what was there is kept.
        """
        PART.write(Path(folder), to_dict(self.config), self.state_dict())

    def require_world(self, world: Genie) -> None:
        """Raises `UserError` for a world that is not the model's own."""
        require(
            world_hash(world) in self.config.world,
            "this reward model was trained for another world, or another training of it; make one "
            "with `genie train --stages [reward]` for this world",
        )

    @torch.no_grad()
    def forward(
        self, state: State, actions: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Returns the expected rewards of steps, and the probabilities that they end the episode.

        Args:
            state: of the games before the step.
            actions: latent actions that are taken.
        """
        return self.heads(state.dynamics.features.float(), actions)

    def outcome(
        self, state: State, actions: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, " b"], Bool[Tensor, " b"]]:
        """Returns the expected rewards of steps, and whether they end the episode.

        The end is sampled. Seed and frame number of a game determine it, as they do its frames.

        Args:
            state: of the games before the step.
            actions: latent actions that are taken.
        """
        rewards, ends = self(state, actions)
        keys = rng.make_keys(state.seed, state.time) + END_KEY
        share = rng.integers(keys, 1, 2**53)[:, 0].double() / 2**53
        return rewards, share < ends


def new_heads(world: Genie) -> RewardHeads:
    """Returns heads for a world, with random weights."""
    dynamics, sizes = world.dynamics, world.config.dynamics
    rows, columns = dynamics.grid
    features = sizes.layers * sizes.heads * sizes.key_width
    return RewardHeads(RewardHeadsConfig(features, rows, columns, num_actions=dynamics.num_actions))
