"""Parsing of a start message: decodes images and checks whole games, so it may take a while."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from genie.core.config import UserError, from_record, require, to_dict
from genie.serving.play.batch import StartGame
from genie.serving.protocol import MAX_MASKGIT_STEPS, ProtocolError, StartMessage
from genie.world.inputs import check_range
from genie.world.maskgit import SamplingConfig
from genie.world.replay import SamplingChange, decode_prompt, expand_changes

PNG_OVERHEAD = 4096  # bytes of a PNG beside its pixels


def frame_count(prompt: np.ndarray) -> int:
    """Returns the number of frames of a prompt `uint8 (H, W, 3)` or `(T, H, W, 3)`."""
    return len(prompt) if prompt.ndim == 4 else 1


@dataclass(frozen=True)
class WorldInfo:
    """What a session needs to know of the world.

    Attributes:
        prompt_frames: number of frames of each prompt in the gallery.
        num_actions: number of latent actions.
        size: height and width in pixels.
        sampling: default sampling.
        fps: frames per second.
        window: maximum number of frames of a prompt.
    """

    prompt_frames: Sequence[int]
    num_actions: int
    size: tuple[int, int] = (64, 64)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    fps: float = 15.0
    window: int = 16

    def check_actions(self, actions: Sequence[int]) -> None:
        """Raises `ProtocolError` if the world lacks one of the actions."""
        try:
            check_range(np.array(actions, object), self.num_actions)
        except UserError as error:
            raise ProtocolError(str(error)) from None


@dataclass(frozen=True)
class GameStart:
    """A parsed start message.

    Attributes:
        seq: sequence number of the message.
        begin: the first turn.
        actions, sampling: of each step to play at once.
    """

    seq: int
    begin: StartGame
    actions: list[int]
    sampling: list[SamplingConfig]


def parse_start(message: StartMessage, world: WorldInfo, sampling: SamplingConfig) -> GameStart:
    """Decodes and checks a start message. It may run in any thread.

    Args:
        message: of the player.
        world: that is played.
        sampling: of this player, for a message without sampling.

    Raises:
        ProtocolError: the world has no such prompt or action.
        UserError: images or sampling do not fit the world; the message is for the player.
    """
    world.check_actions(message.actions)
    seed = random.randrange(2**31) if message.seed is None else message.seed
    own = [{"step": 0, "sampling": to_dict(sampling)}]
    changes = [
        from_record(SamplingChange, change, "sampling") for change in message.sampling or own
    ]
    steps = [change.step for change in changes]
    require(steps == sorted(set(steps)) and steps[0] == 0, "sampling: changes are out of order")
    most = max(MAX_MASKGIT_STEPS, world.sampling.steps)
    maskgit_steps = max(change.sampling.steps for change in changes)
    require(maskgit_steps <= most, f"sampling: {maskgit_steps} steps, {most} are the most")
    prompt = _prompt(message.prompt, world)
    frames = world.prompt_frames[prompt] if isinstance(prompt, int) else frame_count(prompt)
    begin = StartGame(prompt, seed, frames)
    return GameStart(
        message.seq, begin, message.actions, expand_changes(changes, len(message.actions))
    )


def _prompt(prompt: int | list[str], world: WorldInfo) -> int | np.ndarray:
    if isinstance(prompt, int):
        count = len(world.prompt_frames)
        if prompt not in range(count):
            raise ProtocolError(f"prompt: {prompt} does not exist, this world has {count}")
        return prompt
    height, width = world.size
    most = world.window
    require(len(prompt) <= most, f"prompt: {len(prompt)} pictures, this world remembers {most}")
    # Four bytes a pixel and one a row, not compressed, in base64.
    longest = (height * (4 * width + 1) + PNG_OVERHEAD) * 4 // 3
    for text in prompt:
        require(
            len(text) <= longest,
            f"prompt: a PNG of {width}x{height} takes {longest} characters at most, "
            f"this one {len(text)}; save it without metadata",
        )
    return decode_prompt(prompt, world.size)
