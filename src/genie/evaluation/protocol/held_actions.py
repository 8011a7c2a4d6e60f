"""Games in which one button is held: played once, however many measures look at them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from genie.evaluation.protocol.clips import ClipBatches, select_clips
from genie.evaluation.protocol.rollouts import OnStep, clip_seeds, ignore_step, rollout

if TYPE_CHECKING:
    from genie.data.store import ClipStore
    from genie.world.genie import Genie
    from genie.world.maskgit import SamplingConfig

Measure = Callable[[Tensor], Tensor]
"""Of frames (B, T, H, W, 3) what is kept of each step between them, (B, T - 1, ...)."""


@dataclass(frozen=True)
class HeldActionGames:
    """Holds buttons for a number of steps and remembers what was seen of each game.

    A game is what follows from its prompt, its number among the prompts, which decides the noise,
    and the button. It is played when it is first asked for; then everybody has a look and its
    frames are dropped. So memory holds the frames of one batch, and a few numbers for each step
    of the games played: some 6 MB for 256 prompts, 8 buttons and 16 steps, whose frames of 64x64
    pixels would be 400 MB.

    Attributes:
        world: what plays.
        store: has the prompts.
        measures: what is kept of games, by name.
        prompt_frames: real frames that a game starts from.
        steps: for how many frames a button is held.
        seed: chooses prompts and noise.
        batch: games at once.
        sampling: how frames are drawn; the world's own way when None.
    """

    world: Genie
    store: ClipStore
    measures: Mapping[str, Measure]
    prompt_frames: int
    steps: int
    seed: int
    batch: int
    sampling: SamplingConfig | None = None
    _seen: dict[tuple[int, int, int], dict[str, Tensor]] = field(default_factory=dict, init=False)

    def prompts(self, split: str, count: int) -> ClipBatches:
        """Returns so many prompts of a split, fewer where it has no more."""
        starts = select_clips(self.store, split, self.prompt_frames, count, self.seed)
        return ClipBatches(self.store, starts, self.prompt_frames, self.batch, self.world.device)

    def random_actions(self, prompts: ClipBatches, stream: int) -> Int[Tensor, " N"]:
        """Draws a button for each prompt; another stream draws others."""
        drawn = np.random.default_rng([self.seed, stream])
        return torch.from_numpy(
            drawn.integers(self.world.config.num_actions, size=len(prompts.starts))
        )

    def hold(
        self,
        look: str,
        prompts: ClipBatches,
        buttons: int | Int[Tensor, " N"],
        on_step: OnStep = ignore_step,
    ) -> Tensor:
        """Returns what one of the looks kept of the steps in which a button was held.

        Args:
            look: its name.
            prompts: N of them.
            buttons: the latent action held from each prompt, or from all.
            on_step: called after every batch and step that is played.

        Returns:
            (N, steps, ...), on the CPU.
        """
        count = len(prompts.starts)
        held = torch.as_tensor(buttons).expand(count).tolist()
        games = list(zip(prompts.starts.tolist(), range(count), held, strict=True))
        self._play(prompts, [game for game in games if game not in self._seen], on_step)
        return torch.stack([self._seen[game][look] for game in games])

    def max_steps(self, games: int, choosing_games: int, chosen: int) -> int:
        """Returns how many batches and steps are played at the most to choose buttons and use them.

        Args:
            games: prompts from which the chosen buttons, and random ones, are held.
            choosing_games: prompts from which every button is held to choose among them.
            chosen: how many are chosen.
        """
        num_actions = self.world.config.num_actions
        tried, used = (-(-count // self.batch) for count in (choosing_games, games))
        return self.steps * (num_actions * tried + (min(chosen, num_actions) + 1) * used)

    def _play(
        self, prompts: ClipBatches, games: list[tuple[int, int, int]], on_step: OnStep
    ) -> None:
        """Plays games, and has a look at them together with their prompts.

        The prompts are as the tokenizer gives them back, so that the first step shows what moved
        and not what the tokenizer lost.
        """
        world, numbers = self.world, [number for _, number, _ in games]
        noise = clip_seeds(self.seed, 0, len(prompts.starts))
        first = 0
        for prompt in replace(prompts, starts=prompts.starts[numbers]):
            now = games[first : first + len(prompt)]
            buttons = torch.tensor([button for _, _, button in now], device=prompt.device)
            actions = buttons[:, None].expand(-1, self.steps)
            seeds = [noise[number] for _, number, _ in now]
            drawn = rollout(world, prompt, actions, seeds, self.sampling, on_step)
            rebuilt = world.tokenizer.decode(world.tokenizer.encode(prompt)).cpu()
            frames = torch.cat([rebuilt, drawn], dim=1)
            kept = {name: look(frames)[:, -self.steps :] for name, look in self.measures.items()}
            for i, game in enumerate(now):
                self._seen[game] = {name: part[i] for name, part in kept.items()}
            first += len(prompt)
