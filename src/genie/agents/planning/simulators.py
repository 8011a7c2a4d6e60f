"""Where plans are tried: in a world, by latent or by real actions, or in the real game."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genie.agents.planning.goals import Goal, Situation
from genie.agents.planning.similarity import similarity
from genie.world.state import State

if TYPE_CHECKING:
    from genie.data.recording.environments import ProcgenBatch
    from genie.world.action_mapper import ActionMapper
    from genie.world.genie import Genie
    from genie.world.maskgit import SamplingConfig


class Simulator(Protocol):
    """Where plans are tried.

    Attributes:
        choices: how many actions a plan chooses from.
    """

    choices: int

    @abstractmethod
    def score(
        self, situation: Situation, goal: Goal, plans: Int[Tensor, "n t"], seed: int
    ) -> Float[Tensor, " n"]:
        """Returns how near plans come to the goal picture: the similarity at their best step.

        Args:
            situation: where the plans begin.
            goal: its picture counts only.
            plans: of choices.
            seed: of a world's random numbers, the same ones for every plan.
        """
        ...

    @abstractmethod
    def real_action(self, frame: np.ndarray, choice: int) -> int:
        """Returns the real action that stands for a choice where the game shows a frame."""
        ...


class Dream(Simulator):
    """A world in which plans of latent actions are tried.

    Args:
        world: all plans are played in it as one batch.
        mapper: chooses the real action for a latent one.
        sampling: of the world's frames.
    """

    def __init__(self, world: Genie, mapper: ActionMapper, sampling: SamplingConfig) -> None:
        self.world, self.mapper, self.sampling = world, mapper, sampling
        self.choices = world.config.num_actions

    def score(
        self, situation: Situation, goal: Goal, plans: Int[Tensor, "n t"], seed: int
    ) -> Float[Tensor, " n"]:
        """As of `Simulator`."""
        picture = torch.from_numpy(goal.picture)
        near = [similarity(frames, picture) for frames in self._play(situation, plans, seed)]
        return torch.stack(near).amax(0)

    def _play(self, situation: Situation, plans: Tensor, seed: int) -> Iterator[Tensor]:
        begun = self.world.start(situation.frames, seed=seed)
        state = State.stack([begun] * len(plans))
        for choices in plans.T:
            latents = self.latents(state.frame.cpu(), choices)
            frames, state = self.world.step(state, latents, self.sampling)
            yield frames.cpu()

    def latents(self, frames: Tensor, choices: Tensor) -> Tensor | np.ndarray | int:
        """Returns the latent actions that choices play at frames (n,h,w,3)."""
        return choices

    def real_action(self, frame: np.ndarray, choice: int) -> int:
        """Returns the labelled real action that most likely has the latent one.

        How often the labelled steps have a real action does not count, because a plan asks for what
        the latent action does.
        """
        labelled = [self.mapper.index_of(name) for name in self.mapper.labelled_names]
        frames = torch.from_numpy(frame).expand(len(labelled), -1, -1, -1)
        chances = self.mapper.latent_probabilities(frames, torch.tensor(labelled))
        return labelled[int(chances[:, choice].argmax())]


class NamedDream(Dream):
    """A world in which plans of real actions are tried: its mapper names the latent ones.

    Args:
        as of `Dream`.
    """

    def __init__(self, world: Genie, mapper: ActionMapper, sampling: SamplingConfig) -> None:
        super().__init__(world, mapper, sampling)
        self._actions = torch.tensor([mapper.index_of(name) for name in mapper.labelled_names])
        self.choices = len(self._actions)

    def latents(self, frames: Tensor, choices: Tensor) -> Tensor | np.ndarray | int:
        """Returns the latent actions that real ones play at frames (n,h,w,3)."""
        return self.mapper.to_latent(frames, self._actions[choices])

    def real_action(self, frame: np.ndarray, choice: int) -> int:
        """Returns the real action itself."""
        return int(self._actions[choice])


class RealSimulator(Simulator):
    """The real game, whose states are saved and restored: the best that planning can be.

    Args:
        games: in which plans are tried, so many at a time. They are not those that are played.
        actions: real actions that plans choose from.
    """

    def __init__(self, games: ProcgenBatch, actions: Sequence[int]) -> None:
        self.games, self.actions = games, np.array(actions)
        self.choices = len(actions)

    def score(
        self, situation: Situation, goal: Goal, plans: Int[Tensor, "n t"], seed: int
    ) -> Float[Tensor, " n"]:
        """As of `Simulator`. Nothing after the end of a game counts."""
        parts = [self._score(situation, goal, part) for part in plans.split(self.games.num)]
        return torch.cat(parts)

    def _score(self, situation: Situation, goal: Goal, plans: Tensor) -> Tensor:
        picture, num = torch.from_numpy(goal.picture), self.games.num
        self.games.restore([situation.state] * num)
        best, ended = torch.full((num,), -1.0), np.zeros(num, bool)
        for choices in plans.T.numpy():
            actions = np.zeros(num, np.int64)
            actions[: len(choices)] = self.actions[choices]
            ended |= self.games.step(actions, np.zeros(num, bool)).terminated
            near = similarity(torch.from_numpy(self.games.observe()), picture)
            best = torch.where(torch.from_numpy(ended), best, torch.maximum(best, near))
        return best[: len(plans)]

    def real_action(self, frame: np.ndarray, choice: int) -> int:
        """Returns the real action itself."""
        return int(self.actions[choice])
