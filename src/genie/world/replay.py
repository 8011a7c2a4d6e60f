"""A replay: a game as a file, from which it is played again with the same frames.

A replay is JSON: the name and hash of the world, the images of the prompt, the seed, the sampling
settings and the actions. It holds no frames except those of the prompt.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from genie.core.config import Dtype, UserError, from_record, require
from genie.core.io import read_bounded
from genie.core.renamed_keys import with_old_keys
from genie.data.images import png, rgb
from genie.models.dynamics import first_name
from genie.models.tokenizer_losses.config import ExtraLosses
from genie.world.checkpoint import rename_dynamics
from genie.world.maskgit import SamplingConfig

if TYPE_CHECKING:
    from genie.world.config import GenieConfig
    from genie.world.genie import Genie

FORMAT, VERSION = "genie-replay", 1
SAMPLER_VERSION = 2
"""Part of a world's hash. It increases when a seed gives other frames than before."""
ADDED = {
    "dynamics.unconditional_share": 0.0,
    "dynamics.own_context": 0.0,
    "dynamics.own_context_passes": 1,
    "dynamics.multiscale_weight": 0.0,
    "dynamics.diversity_weight": 0.0,
    "sampling.reencode_every": 0,
    "tokenizer.backbone": "transformer",
    "actions.kind": "motion",
    "actions.embedding_noise": 0.0,
    "actions.entropy_weight": 0.0,
    "actions.smoothness_weight": 0.0,
    "actions.consistency_weight": 0.0,
    "actions.lfq_codebooks": 0,
    "tokenizer.quantizer.codebooks": 1,
    "tokenizer.extra_losses": asdict(ExtraLosses()),
}
"""Keys that are newer than the hash, with the default at which they are left out of it."""
NOT_HASHED = "guidance"
"""A field of the sampling that replays hold for each step. A world may get another default."""


MOST_BYTES = 2**24
"""Of a replay file; those of an hour have about 200,000."""
MOST_PICTURES = 1024
"""Of a prompt."""
PNG_OVERHEAD = 4096
"""Bytes of a PNG beside its pixels."""


@dataclass(frozen=True)
class SamplingChange:
    """The sampling settings from a step on.

    Attributes:
        step: counted from 0.
        sampling: from this step to the next change.
    """

    step: int
    sampling: SamplingConfig


@dataclass(frozen=True)
class Replay:
    """A game that can be played again.

    Attributes:
        world: the name of the world.
        hash: `world_hash` of it.
        fps: frames per second of the game.
        prompt: the frames it started from, each a PNG of the world's size in base64.
        seed: of the game.
        sampling: settings in the order of their steps, the first for step 0.
        actions: one per step.
        dtype: of the world's weights.
        device: that computed the frames, such as "cpu", "cuda" or "webgpu". Another one rounds in
            another way, so some tokens may differ there.
        format, version: of the file.
    """

    world: str
    hash: str
    fps: float
    prompt: tuple[str, ...]
    seed: int
    sampling: tuple[SamplingChange, ...]
    actions: tuple[int, ...]
    dtype: Dtype = "float32"
    device: str = "cpu"
    format: Literal["genie-replay"] = FORMAT
    version: Literal[1] = VERSION

    def __post_init__(self) -> None:
        """Raises `UserError` for a game that cannot be played."""
        require(0.01 <= self.fps <= 1000, "fps: must lie between 0.01 and 1000")
        require(len(self.prompt) > 0, "prompt: a game starts from at least one picture")
        few = len(self.prompt) <= MOST_PICTURES
        require(few, f"prompt: {len(self.prompt):,} pictures, at most {MOST_PICTURES} are played")
        require(0 <= self.seed < 2**31, "seed: must lie between 0 and 2147483647")
        require(all(action >= 0 for action in self.actions), "actions: must not be negative")
        check_order(self.sampling)

    @classmethod
    def of_game(
        cls,
        world: Genie,
        name: str,
        prompt: np.ndarray,
        seed: int,
        actions: Sequence[int],
        sampling: Sequence[SamplingConfig] = (),
        *,
        fps: float | None = None,
        hash: str | None = None,
    ) -> Replay:
        """Returns the replay of a game.

        Args:
            world: of the game.
            name: of the world.
            prompt: uint8 (H, W, 3) or (T, H, W, 3), of the world's size.
            seed: of the game.
            actions: one per step.
            sampling: settings of each step; the world's own when left out.
            fps: frames per second; None takes the world's own.
            hash: `world_hash` of the world, if it is known.
        """
        config = world.config
        return cls(
            world=name,
            hash=hash or world_hash(world),
            fps=fps or config.fps,
            prompt=tuple(map(encode_frame, prompt if prompt.ndim == 4 else prompt[None])),
            seed=seed,
            sampling=compress_changes(sampling or [config.sampling]),
            actions=tuple(actions),
            dtype=dtype_name(world.dtype),
            device=world.device.type,
        )

    @classmethod
    def read(cls, path: str | Path) -> Replay:
        """Reads a replay file.

        Raises:
            UserError: there is no such file, or it is not a replay; the message names the field.
        """
        try:
            values = json.loads(read_bounded(path, MOST_BYTES))
        except FileNotFoundError:
            raise UserError(f"{path}: there is no such replay file") from None
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            words = "save one with `Replay` on the page of `genie play`"
            raise UserError(f"{path}: not a replay file; {words}") from None
        return from_record(cls, values, str(path))

    def frames(self, world: Genie) -> Iterator[np.ndarray]:
        """Plays the game again.

        Args:
            world: of the game.

        Yields:
            Frames uint8 (H, W, 3): those of the prompt, then one per action.

        Raises:
            UserError: the world is another one, or an image or an action does not fit it.
        """
        if world_hash(world) != self.hash:
            raise UserError(
                f"this replay was made in {self.world}, and this is another world or another "
                "training or version of it: name the right one with --world"
            )
        prompt = decode_prompt(self.prompt, (world.config.height, world.config.width))
        yield from prompt[None] if prompt.ndim == 3 else prompt
        state = world.start(prompt, self.seed)
        for action, sampling in zip(self.actions, self.sampling_per_step(), strict=True):
            frame, state = world.step(state, action, sampling)
            yield frame.cpu().numpy()

    def sampling_per_step(self) -> list[SamplingConfig]:
        """Returns the sampling settings of each step."""
        return expand_changes(self.sampling, len(self.actions))


def check_order(changes: Sequence[SamplingChange]) -> None:
    """Raises `UserError` unless changes of sampling begin at step 0 and are in order."""
    steps = [change.step for change in changes]
    ordered = steps == sorted(set(steps)) and steps[:1] == [0]
    require(ordered, "sampling: expected changes in order, from step 0 on")


def expand_changes(changes: Sequence[SamplingChange], steps: int) -> list[SamplingConfig]:
    """Expands changes of sampling to one entry per step.

    Args:
        changes: in the order of their steps.
        steps: number of entries wanted.
    """
    ends = [*(change.step for change in changes[1:]), steps]
    expanded: list[SamplingConfig] = []
    for change, end in zip(changes, ends, strict=True):
        expanded += [change.sampling] * (min(end, steps) - len(expanded))
    return expanded


def compress_changes(sampling: Iterable[SamplingConfig]) -> tuple[SamplingChange, ...]:
    """Compresses the sampling of each step to its changes; the inverse of `expand_changes`."""
    changes: list[SamplingChange] = []
    for step, settings in enumerate(sampling):
        if not changes or changes[-1].sampling != settings:
            changes.append(SamplingChange(step, settings))
    return tuple(changes)


def dtype_name(dtype: torch.dtype) -> Dtype:
    """Returns the name that a replay uses for a type of weights."""
    return cast("Dtype", str(dtype).removeprefix("torch."))


def world_hash(world: Genie) -> str:
    """Returns the SHA-256 of a world's configuration, weights and sampler, in hexadecimal.

    Names and keys are hashed as in version 0.1. So replays stay valid when a name changes or when
    there is a new option that the world does not use.
    """
    about = json.dumps([SAMPLER_VERSION, _hashed(world.config)], sort_keys=True)
    digest = hashlib.sha256(about.encode())
    weights = rename_dynamics(world.state_dict(), first_name)
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _hashed(config: GenieConfig) -> dict[str, Any]:
    """Returns the configuration under its oldest keys, without options that are newer."""
    values = with_old_keys(config)
    for path, default in ADDED.items():
        *parents, key = path.split(".")
        part = reduce(dict.__getitem__, parents, values)
        if part.get(key) == default:
            del part[key]
    del values["sampling"][NOT_HASHED]
    return values


def decode_prompt(pictures: Sequence[str], size: tuple[int, int]) -> np.ndarray:
    """Decodes the images of a prompt.

    Args:
        pictures: PNG files in base64, at least one.
        size: height and width of the world's frames, in pixels.

    Returns:
        uint8 (H, W, 3), or (T, H, W, 3) for several.

    Raises:
        UserError: an image is not a PNG, is damaged, has another size, or holds more than its
            pixels can take.
    """
    frames = [_picture_of(text, size) for text in pictures]
    return frames[0] if len(frames) == 1 else np.stack(frames)


def encode_frame(frame: np.ndarray) -> str:
    """Encodes a frame uint8 (H, W, 3) as a PNG in base64."""
    return base64.b64encode(png(frame)).decode()


def _picture_of(text: str, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    # Four bytes a pixel and one a row, not compressed, in base64.
    longest = (height * (4 * width + 1) + PNG_OVERHEAD) * 4 // 3
    require(
        len(text) <= longest,
        f"prompt: a PNG of {width}x{height} takes {longest} characters at most, "
        f"this one {len(text)}; save it without metadata",
    )
    try:
        data = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.size != (width, height):
                found = "x".join(map(str, image.size))
                raise UserError(f"prompt: a picture of {found}, the world's are {width}x{height}")
            frame = rgb(image)
            require(frame.shape[:2] == size, "prompt: a picture that lies on its side; turn it")
            return frame
    except UserError:
        raise
    except (binascii.Error, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"prompt: not a PNG picture ({error})") from None
    except Exception as error:  # damaged files make the decoder raise whatever it likes
        raise UserError(f"prompt: a damaged picture ({error})") from None
