"""Parsing of a start message: decodes images and checks whole games, so it may take a while."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from genie.core.config import UserError, from_record, require, to_dict
from genie.serving.play.batch import StartGame
from genie.serving.protocol import MAX_MASKGIT_STEPS, ProtocolError, StartMessage
from genie.world.inputs import check_guidance, check_range
from genie.world.maskgit import SamplingConfig
from genie.world.prompts import frame_count
from genie.world.replay import SamplingChange, check_order, decode_prompt, expand_changes

if TYPE_CHECKING:
    from genie.world.config import GenieConfig


@contextlib.contextmanager
def breaks_protocol() -> Iterator[None]:
    """Raises `ProtocolError` instead of `UserError`: the connection is closed."""
    try:
        yield
    except UserError as error:
        raise ProtocolError(str(error)) from None


def parse_start(
    message: StartMessage,
    world: GenieConfig,
    prompt_frames: Sequence[int],
    sampling: SamplingConfig,
) -> tuple[StartGame, list[SamplingConfig]]:
    """Decodes and checks a start message. It may run in any thread.

    Args:
        message: of the player.
        world: configuration of the world.
        prompt_frames: number of frames of each prompt in the gallery.
        sampling: of this player, for a message without sampling.

    Returns:
        The first turn, and the sampling of each action of the message.

    Raises:
        ProtocolError: the world has no such prompt or action.
        UserError: images or sampling do not fit the world; the message is for the player.
    """
    with breaks_protocol():
        check_range(np.array(message.actions, object), world.num_actions)
    seed = random.randrange(2**31) if message.seed is None else message.seed
    own = [{"step": 0, "sampling": to_dict(sampling)}]
    changes = [
        from_record(SamplingChange, change, "sampling") for change in message.sampling or own
    ]
    check_order(changes)
    most = max(MAX_MASKGIT_STEPS, world.sampling.steps)
    maskgit_steps = max(change.sampling.steps for change in changes)
    require(maskgit_steps <= most, f"sampling: {maskgit_steps} steps, {most} are the most")
    for change in changes:
        check_guidance(change.sampling.guidance, world.dynamics.unconditional_fraction)
    prompt = _prompt(message.prompt, world, prompt_frames)
    frames = prompt_frames[prompt] if isinstance(prompt, int) else frame_count(prompt)
    return StartGame(prompt, seed, frames), expand_changes(changes, len(message.actions))


def _prompt(
    prompt: int | list[str], world: GenieConfig, prompt_frames: Sequence[int]
) -> int | np.ndarray:
    if isinstance(prompt, int):
        count = len(prompt_frames)
        if prompt not in range(count):
            raise ProtocolError(f"prompt: {prompt} does not exist, this world has {count}")
        return prompt
    most = max(world.dynamics.window, *prompt_frames)
    require(len(prompt) <= most, f"prompt: {len(prompt)} pictures, this world remembers {most}")
    return decode_prompt(prompt, (world.height, world.width))
