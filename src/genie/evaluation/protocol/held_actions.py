"""Games in which one action is held: played once, however many measures there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from genie.data.clips import ClipBatches
from genie.evaluation.protocol.rollouts import RolloutPlayer, clip_seeds

Measure = Callable[[Tensor], Tensor]
"""Of frames (B, T, H, W, 3) what is kept of each step between them, (B, T - 1, ...)."""


@dataclass(frozen=True)
class HeldActionGames:
    """Holds actions for a number of steps and keeps what was measured of each game.

    A game is what follows from its prompt, its number among the prompts, which decides the noise,
    and the action. It is played when it is first asked for. Then all measures are taken and its
    frames are dropped. So memory holds the frames of one batch, and a few numbers for each step.

    Attributes:
        player: plays the world.
        measures: what is kept of games, by name.
        steps: for how many frames an action is held.
        seed: chooses noise and random actions.
    """

    player: RolloutPlayer
    measures: Mapping[str, Measure]
    steps: int
    seed: int
    _measured: dict[tuple[int, int, int], dict[str, Tensor]] = field(
        default_factory=dict, init=False
    )

    def random_actions(self, prompts: ClipBatches, stream: int) -> Int[Tensor, " N"]:
        """Samples an action for each prompt; another stream samples others."""
        rng = np.random.default_rng([self.seed, stream])
        count, num_actions = len(prompts.starts), self.player.world.config.num_actions
        return torch.from_numpy(rng.integers(num_actions, size=count))

    def hold(self, measure: str, prompts: ClipBatches, actions: int | Int[Tensor, " N"]) -> Tensor:
        """Returns what one of the measures kept of the steps in which an action was held.

        Args:
            measure: its name.
            prompts: N of them.
            actions: the latent action held from each prompt, or from all.

        Returns:
            (N, steps, ...), on the CPU.
        """
        count = len(prompts.starts)
        held = torch.as_tensor(actions).expand(count).tolist()
        games = list(zip(prompts.starts.tolist(), range(count), held, strict=True))
        self._play(prompts, [game for game in games if game not in self._measured])
        return torch.stack([self._measured[game][measure] for game in games])

    def _play(self, prompts: ClipBatches, games: list[tuple[int, int, int]]) -> None:
        """Plays games, and measures them together with their prompts as `rebuilt`."""
        noise, numbers = clip_seeds(self.seed, 0, len(prompts.starts)), [game[1] for game in games]
        for prompt in replace(prompts, starts=prompts.starts[numbers]):
            now, games = games[: len(prompt)], games[len(prompt) :]
            held = torch.tensor([action for _, _, action in now])[:, None].expand(-1, self.steps)
            played = self.player.rollout(prompt, held, [noise[number] for _, number, _ in now])
            frames = torch.cat([self.player.rebuilt(prompt), played], dim=1)
            kept = {name: of(frames)[:, -self.steps :] for name, of in self.measures.items()}
            for i, game in enumerate(now):
                self._measured[game] = {name: part[i] for name, part in kept.items()}
