"""Playing a world by the names of real actions: does "left" do what it does in the real game?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from genie.evaluation.protocol.rollouts import clip_seeds
from genie.plugins.scrolling import (
    DIRECTIONS,
    MIN_DISTANCE,
    followed,
    real_directions,
    scroll,
    scrolling,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genie.evaluation.metrics.context import Evaluation
    from genie.world.action_mapper import ActionMapper
    from genie.world.genie import Genie


def hold_name(
    world: Genie,
    mapper: ActionMapper,
    prompts: UInt8[Tensor, "b p h w 3"],
    name: str,
    seeds: list[int],
    steps: int,
) -> UInt8[Tensor, "b t h w 3"]:
    """Holds a real action from prompts: the mapper chooses the latent action of every step.

    Returns:
        The last frame of the prompts as the tokenizer gives it back, and the frames played.
    """

    def frames() -> Iterator[Tensor]:
        yield world.tokenizer.decode(world.tokenizer.encode(prompts))[:, -1].cpu()
        state = world.start(prompts, seed=seeds)
        for _ in range(steps):
            latents = mapper.to_latent(state.frame, name)
            frame, state = world.step(state, latents)
            yield frame.cpu()

    return torch.stack(list(frames()), dim=1)


def scrolling_by_name(
    evaluation: Evaluation, mappers: dict[str, ActionMapper], split: str | None = None
) -> dict[str, dict[str, float]]:
    """Counts the games that scroll the way of a real action that is held by name.

    Prompts, noise and the measure are those of `genie.plugins.scrolling`.

    Args:
        evaluation: the world, the store, and how many games of how many steps are played.
        mappers: by the name that they have in the result.
        split: where the prompts are from; the one that is evaluated when left out.

    Returns:
        For each direction in which the real game scrolls, the share of games of each mapper.
    """
    config, store = evaluation.config, evaluation.store
    prompts = evaluation.select(config.prompt_frames, config.closed_loop_games, split=split)
    noise = clip_seeds(config.seed, 0, len(prompts.starts))
    distance = MIN_DISTANCE * min(store.height, store.width)
    found = dict[str, dict[str, float]]()
    for direction in real_directions(evaluation):
        found[direction] = {}
        for label, mapper in mappers.items():
            name, kept, first = _name_of(mapper, direction), list[Tensor](), 0
            if name is None:
                continue
            for batch in prompts:
                seeds = noise[first : first + len(batch)]
                first += len(batch)
                frames = hold_name(
                    evaluation.world, mapper, batch, name, seeds, config.closed_loop_steps
                )
                kept.append(followed(scroll(frames), distance)[direction])
            found[direction][label] = torch.cat(kept).float().mean().item()
    return found


def compare_by_name(evaluation: Evaluation, mappers: dict[str, ActionMapper]) -> dict[str, Any]:
    """Sets games played by name beside the real game and games of a single latent action.

    Returns:
        `scrolling`, the section of `genie evaluate`, whose single latent actions were chosen among
        all on training levels, and `by_name`, the shares of the mappers.
    """
    return {
        "scrolling": scrolling(evaluation),
        "by_name": scrolling_by_name(evaluation, mappers),
    }


def _name_of(mapper: ActionMapper, direction: str) -> str | None:
    """The plainest labelled action of a direction: "left" rather than "left+up"."""
    words = DIRECTIONS[direction]
    fitting = [name for name in mapper.labelled_names if any(word in name for word in words)]
    return min(fitting, key=len, default=None)
