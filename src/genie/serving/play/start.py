"""Reading the start of a game, which takes a while: pictures to decode, whole games to check."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from genie.core.config import UserError, from_dict, require, to_dict
from genie.serving.play.batch import StartGame
from genie.serving.protocol import MAX_MASKGIT_STEPS, ProtocolError, StartMessage
from genie.world.inputs import check_range
from genie.world.maskgit import SamplingConfig
from genie.world.replay import SamplingChange, prompt_of, spread

PICTURE_EXTRA = 4096  # bytes of a PNG beside its pixels


def frame_count(prompt: np.ndarray) -> int:
    """How many pictures a prompt u8 (H, W, 3) or (T, H, W, 3) has."""
    return len(prompt) if prompt.ndim == 4 else 1


@dataclass(frozen=True)
class WorldInfo:
    """What a session has to know of the world.

    Attributes:
        prompt_frames: how many pictures each prompt of the gallery has.
        num_actions: latent actions.
        size: height and width in pixels.
        sampling: how frames are drawn unless the player says otherwise.
        fps: ticks per second.
        window: frames that the world remembers, the most that a game starts from.
    """

    prompt_frames: Sequence[int]
    num_actions: int
    size: tuple[int, int] = (64, 64)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    fps: float = 15.0
    window: int = 16

    def check_actions(self, actions: Sequence[int]) -> None:
        """Refuses actions that the world does not have.

        Raises:
            ProtocolError: there is one.
        """
        try:
            check_range(np.array(actions, object), self.num_actions)
        except UserError as error:
            raise ProtocolError(str(error)) from None


@dataclass(frozen=True)
class GameStart:
    """A start that can be played: the turn that begins it, and what is played from there.

    Attributes:
        seq: number of the message that asked for it.
        begin: the first turn.
        actions, sampling: of each step.
    """

    seq: int
    begin: StartGame
    actions: list[int]
    sampling: list[SamplingConfig]


def parse_start(
    message: StartMessage, world_info: WorldInfo, sampling: SamplingConfig
) -> GameStart:
    """Decodes and checks what a start brings along. A pure function: it may run in any thread.

    Args:
        message: of the player.
        terms: of the world.
        sampling: how this player's frames are drawn, where the start does not say it.

    Raises:
        ProtocolError: it names a prompt or an action that there isn't.
        UserError: pictures or sampling that do not fit the world; the message is for the player.
    """
    world_info.check_actions(message.actions)
    seed = random.randrange(2**31) if message.seed is None else message.seed
    own = [{"step": 0, "sampling": to_dict(sampling)}]
    changes = [from_dict(SamplingChange, change, "sampling") for change in message.sampling or own]
    steps = [change.step for change in changes]
    require(steps == sorted(set(steps)) and steps[0] == 0, "sampling: changes are out of order")
    most = max(MAX_MASKGIT_STEPS, world_info.sampling.steps)
    passes = max(change.sampling.steps for change in changes)
    require(passes <= most, f"sampling: {passes} passes, {most} are the most")
    prompt = _prompt(message.prompt, world_info)
    frames = world_info.prompt_frames[prompt] if isinstance(prompt, int) else frame_count(prompt)
    begin = StartGame(prompt, seed, frames)
    return GameStart(message.seq, begin, message.actions, spread(changes, len(message.actions)))


def _prompt(prompt: int | list[str], world_info: WorldInfo) -> int | np.ndarray:
    if isinstance(prompt, int):
        count = len(world_info.prompt_frames)
        if prompt not in range(count):
            raise ProtocolError(f"prompt: there are {count}, {prompt} is none")
        return prompt
    height, width = world_info.size
    most = world_info.window
    require(len(prompt) <= most, f"prompt: {len(prompt)} pictures, this world remembers {most}")
    # Four bytes a pixel and one a row, not compressed, in base64.
    longest = (height * (4 * width + 1) + PICTURE_EXTRA) * 4 // 3
    for text in prompt:
        if len(text) > longest:
            raise UserError(
                f"prompt: a PNG of {width}x{height} takes {longest} characters at most, "
                f"this one {len(text)}; save it without other data"
            )
    return prompt_of(prompt, world_info.size)
