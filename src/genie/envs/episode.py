"""Where episodes start, what a step earns, and when they end: for one game or a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from genie.core.config import UserError, require, shown
from genie.core.numbers import whole_number
from genie.world.prompts import load_prompts

if TYPE_CHECKING:  # torch takes seconds to import
    from genie.world.action_mapper import ActionMapper
    from genie.world.genie import Genie
    from genie.world.maskgit import SamplingConfig
    from genie.world.reward_model import RewardModel
    from genie.world.state import State

DEFAULT_HORIZON = 256
ACTIONS = ("latent", "real")
"""Which actions an environment takes: those of the world, or those of the real game."""
LEARNED = "learned"
"""Says that reward and end are those of the reward model beside the world."""

RewardFn = Callable[[np.ndarray, int, np.ndarray, dict[str, Any]], float]
TerminationFn = Callable[[np.ndarray, int, np.ndarray, dict[str, Any]], bool]


@dataclass(frozen=True)
class Rules:
    """What both environments share: the world, where games start, and what a step earns."""

    world: Genie
    prompts: Sequence[np.ndarray]
    horizon: int | None
    reward_fn: RewardFn | None
    termination_fn: TerminationFn | None
    sampling: SamplingConfig | None
    mapper: ActionMapper | None = None
    reward_model: RewardModel | None = None

    def __post_init__(self) -> None:
        if self.horizon is not None:
            words = "horizon: expected a whole number of steps above 0, or None for no end"
            limit = whole_number(self.horizon, words)
            require(limit > 0, f"{words}, got {limit}")

    @property
    def observation_space(self) -> gymnasium.spaces.Box:
        """Frames, `uint8 (H, W, 3)`."""
        config = self.world.config
        return gymnasium.spaces.Box(0, 255, (config.height, config.width, 3), np.uint8)

    @property
    def action_space(self) -> gymnasium.spaces.Discrete:
        """Latent actions, or real ones where there is a mapper."""
        return gymnasium.spaces.Discrete(len(self.action_names))

    @property
    def action_names(self) -> list[str]:
        """A name for each action."""
        if self.mapper is not None:
            return self.mapper.names
        return [f"action {number}" for number in range(self.world.config.num_actions)]

    def latent_actions(self, frames: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Returns the latent actions (N,) that are played for actions (N,) at frames (N,H,W,3)."""
        if self.mapper is None:
            return actions
        return np.asarray(self.mapper.to_latent(frames, actions))

    def sample_start(
        self, rng: np.random.Generator, options: dict[str, Any] | None
    ) -> tuple[int, int]:
        """Samples (index of the prompt, seed of the game) for one episode from an env's stream."""
        index, seed = int(rng.integers(len(self.prompts))), int(rng.integers(2**31))
        known = f"options['prompt']: choose 0 to {len(self.prompts) - 1}"
        wanted = whole_number((options or {}).get("prompt", index), known)
        require(0 <= wanted < len(self.prompts), f"{known}, got {wanted}")
        return wanted, seed

    def start(self, starts: Sequence[tuple[int, int]]) -> list[State]:
        """Starts a game for each (index of a prompt, seed), in one batch where lengths agree."""
        clips = [self.prompts[index] for index, _ in starts]
        seeds = [seed for _, seed in starts]
        if len({clip.shape for clip in clips}) > 1:
            return [self.world.start(clip, seed) for clip, seed in zip(clips, seeds, strict=True)]
        batch = np.stack([clip if clip.ndim == 4 else clip[None] for clip in clips])
        return self.world.start(batch, seeds).split()

    def learned(self, before: State, latents: np.ndarray) -> list[tuple[float, bool]]:
        """Returns (reward, terminated) of each game, as the reward model says before the step."""
        if self.reward_model is None:
            return [(0.0, False)] * len(latents)
        import torch

        actions = torch.as_tensor(latents, device=self.world.device)
        rewards, ends = self.reward_model.outcome(before, actions)
        return list(zip(rewards.tolist(), ends.tolist(), strict=True))

    def outcome(
        self,
        frame: np.ndarray,
        action: int,
        after: np.ndarray,
        info: dict[str, Any],
        learned: tuple[float, bool] = (0.0, False),
    ) -> tuple[float, bool, bool]:
        """Returns (reward, terminated, truncated) of one transition."""
        reward, ended = learned
        if self.reward_fn:
            reward = self.reward_fn(frame, action, after, info)
        if self.termination_fn:
            ended = self.termination_fn(frame, action, after, info)
        return float(reward), bool(ended), self.horizon is not None and info["step"] >= self.horizon


def rules_of(
    world: Genie | str | Path,
    prompt: Any,
    device: str | None,
    horizon: int | None,
    reward_fn: RewardFn | None,
    termination_fn: TerminationFn | None,
    sampling: SamplingConfig | None,
    actions: str = "latent",
    mapper: ActionMapper | str | Path | None = None,
    reward: RewardModel | str | Path | None = None,
) -> Rules:
    """Loads the world, where it is given by name, prompts and mapper; arguments of `GenieEnv`."""
    folder = world
    if isinstance(world, str | Path):
        from genie.world.genie import Genie
        from genie.world.hub import world_folder

        folder = world_folder(world)
        world = Genie.from_pretrained(folder, device=device)
    prompts = load_prompts(prompt, world.config.height, world.config.width, folder)
    known = _mapper(world, folder, actions, mapper)
    own = None
    if reward is not None:
        clear = reward_fn is None and termination_fn is None
        require(clear, "reward: gives reward and end; leave reward_fn and termination_fn out")
        own = _reward_model(world, reward)
    return Rules(world, prompts, horizon, reward_fn, termination_fn, sampling, known, own)


def _reward_model(world: Genie, reward: RewardModel | str | Path) -> RewardModel:
    from genie.world.reward_model import RewardModel

    if isinstance(reward, RewardModel):
        reward.require_world(world)
        return reward
    beside = world.folder if reward == LEARNED else reward
    if beside is None:
        raise UserError(
            "reward: give a RewardModel or its folder, because the world was not loaded by name"
        )
    return RewardModel.from_pretrained(beside, world)


def _mapper(
    world: Genie,
    folder: Genie | str | Path,
    actions: str,
    mapper: ActionMapper | str | Path | None,
) -> ActionMapper | None:
    kinds = " or ".join(map(repr, ACTIONS))
    require(actions in ACTIONS, f"actions: expected {kinds}, got {shown(actions)}")
    if actions == "latent":
        require(mapper is None, "mapper: only of use with actions='real'")
        return None
    from genie.world.action_mapper import ActionMapper

    if isinstance(mapper, ActionMapper):
        mapper.require_world(world)
        return mapper
    beside = mapper if mapper is not None else folder
    if isinstance(beside, str | Path):
        return ActionMapper.from_pretrained(beside, world)
    raise UserError("mapper: give the folder of a mapper, because the world was not loaded by name")


def checked_render_mode(render_mode: str | None) -> str | None:
    """Returns a render mode that there is."""
    allowed = (None, "rgb_array")
    if render_mode not in allowed:
        raise UserError(f"render_mode: {render_mode!r} is not known, use 'rgb_array' or None")
    return render_mode


def pixels(state: State) -> np.ndarray:
    """The last frame(s) as the caller's own array."""
    return np.array(state.frame.cpu().numpy())
