"""A video of dream and real game side by side: the same first frame, the same actions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from genie.agents.agent import Agent, last_frames
from genie.agents.playing import require_game
from genie.agents.real_game import RealGameConfig
from genie.core.config import require
from genie.data.recording.environments import EnvBatch, LevelRange, make_env_batch
from genie.data.video import Resizer, write_video
from genie.world.action_mapper import ActionMapper, read_mapper
from genie.world.genie import Genie
from genie.world.hub import world_folder

GAP = 2
"""Columns between the dream and the real game."""


@dataclass(frozen=True)
class Pairs:
    """Games that were played in a world and in the real game.

    Attributes:
        dream: what the world shows; its first frames are real.
        real: what the game shows.
        going: whether the real game has not ended before a frame.
    """

    dream: UInt8[Tensor, "games t h w 3"]
    real: UInt8[Tensor, "games t h w 3"]
    going: Bool[Tensor, "games t"]

    def frames(self) -> Iterator[UInt8[np.ndarray, "h columns 3"]]:
        """Yields the pictures of all games, one game after the other, the dream on the left."""
        for dream, real, going in zip(self.dream, self.real, self.going, strict=True):
            for left, right in zip(dream[going].numpy(), real[going].numpy(), strict=True):
                yield np.hstack([left, np.full((len(left), GAP, 3), 255, np.uint8), right])


def play_both(
    agent: Agent,
    world: Genie,
    game: RealGameConfig,
    *,
    games: int = 4,
    steps: int = 60,
    seed: int = 0,
) -> Pairs:
    """Lets an agent play the real game, and plays the same actions in a world.

    The agent sees the real game only. A mapper gives the real actions of its latent ones, or the
    latent actions of its real ones where it rates real actions itself.

    Args:
        agent: that plays.
        world: that dreams.
        game: the real game; levels from its first on.
        games: how many, each of another level.
        steps: of each, fewer where it ends.
        seed: of what is sampled.

    Raises:
        UserError: the agent is of another world, or there is no mapper.
    """
    agent.require_world(world)
    mapper = read_mapper(world.folder, world) or agent.mapper
    require(mapper is not None, "a mapper is needed beside the world; make one with `genie map`")
    assert mapper is not None
    make = make_env_batch(game.env, mode=game.distribution_mode, options=game.options)
    batch = make(games, LevelRange(game.first_level, games), seed)
    try:
        return _play(agent, world, mapper, batch, steps, seed)
    finally:
        batch.close()


def _play(
    agent: Agent, world: Genie, mapper: ActionMapper, games: EnvBatch, steps: int, seed: int
) -> Pairs:
    resize, rng = Resizer(world.config.height, world.config.width), np.random.default_rng(seed)
    real, going = [_shown(games, resize)], [torch.ones(games.num, dtype=torch.bool)]
    dream = [real[0]]
    state = world.start(real[0][:, None].numpy(), seed)
    for _ in range(steps):
        stacks = last_frames(torch.stack(real, 1), agent.config.policy.frames)
        latents, actions = _chosen(agent, mapper, stacks, rng)
        frame, state = world.step(state, latents)
        step = games.step(actions, np.zeros(games.num, bool))
        ended = torch.from_numpy(step.terminated | step.truncated)
        dream.append(frame.cpu())
        real.append(_shown(games, resize))
        going.append(going[-1] & ~ended)
    return Pairs(*(torch.stack(parts, 1) for parts in (dream, real, going)))


def _shown(games: EnvBatch, resize: Resizer) -> UInt8[Tensor, "games h w 3"]:
    return torch.from_numpy(resize(games.observe()))


def _chosen(
    agent: Agent, mapper: ActionMapper, stacks: Tensor, rng: np.random.Generator
) -> tuple[Tensor, np.ndarray]:
    """The latent and the real action of each game, which stand for each other."""
    if agent.config.policy.real_actions:
        actions = np.asarray(agent.act(stacks, rng, "real"))
        return torch.as_tensor(mapper.to_latent(stacks[:, -1], actions)), actions
    latents = np.asarray(agent.act(stacks, rng, "latent"))
    return torch.from_numpy(latents), np.asarray(mapper.to_real(stacks[:, -1], latents, rng))


def write_side_by_side(
    agent: str | Path | Agent,
    world: str | Path,
    path: str | Path,
    game: RealGameConfig | None = None,
    *,
    games: int = 4,
    steps: int = 60,
    seed: int = 0,
) -> Path:
    """Writes a video, an MP4 or a GIF by its ending, in which `play_both` is seen.

    Args:
        agent: an agent, or its folder.
        world: folder of a world, its id on the Hugging Face Hub, or the name of one that comes with
            the package.
        path: of the video.
        game: as of `play_both`; CoinRun if left out.
        games, steps, seed: as of `play_both`.

    Raises:
        UserError: as of `play_both`, or the video cannot be written.
    """
    game = game or RealGameConfig()
    agent = agent if isinstance(agent, Agent) else Agent.from_pretrained(agent)
    require_game(agent, game)
    genie = Genie.from_pretrained(world_folder(world))
    pairs = play_both(agent, genie, game, games=games, steps=steps, seed=seed)
    scale = max(1, 256 // max(genie.config.height, genie.config.width))
    return write_video(path, pairs.frames(), genie.config.fps, pixel_format="yuv420p", scale=scale)
