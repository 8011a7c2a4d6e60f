"""An agent that plays a world for those who let it, and says how likely it takes each action."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from genie.agents.agent import Agent, sampled
from genie.core.config import require
from genie.data.images import rgb

if TYPE_CHECKING:
    from genie.world.genie import Genie


class Autoplay:
    """Chooses the latent actions of a game by an agent.

    Args:
        agent: of the world that is played.
        seed: of the actions, which are sampled in proportion to their probabilities.
    """

    def __init__(self, agent: Agent, seed: int = 0) -> None:
        self._agent, self._rng = agent, np.random.default_rng([seed, 41])

    @classmethod
    def from_pretrained(cls, folder: str | Path, world: Genie) -> Autoplay:
        """Loads an agent for a world.

        Raises:
            UserError: there is no agent, it was made for another world, or knows real actions only.
        """
        agent = Agent.from_pretrained(folder)
        knows = agent.config.policy.latent_actions > 0
        require(knows, f"{folder}: this agent knows real actions only; it cannot play a world")
        agent.require_world(world)
        return cls(agent)

    @property
    def frames(self) -> int:
        """How many of the last frames it sees."""
        return self._agent.config.policy.frames

    def __call__(self, pictures: Sequence[tuple[Any, bytes]]) -> tuple[int, list[float]]:
        """Returns an action and the probability of each.

        Args:
            pictures: the last frames of a game, each a codec and an encoded image.
        """
        seen = [rgb(Image.open(io.BytesIO(data))) for _, data in pictures]
        chances = self._agent.probabilities(np.stack(seen), "latent")
        return int(sampled(chances, self._rng)[0]), chances[0].tolist()
