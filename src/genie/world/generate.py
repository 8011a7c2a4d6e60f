"""`genie generate` and `genie replay`: actions or a replay become a video."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from genie.core.config import Device, Dtype, UserError, require
from genie.core.io import replacing
from genie.core.numbers import seed_of
from genie.core.progress import Progress
from genie.data.images import png
from genie.world import bundled, checkpoint, inputs
from genie.world.action_mapper import ActionMapper
from genie.world.genie import Genie
from genie.world.hub import world_folder
from genie.world.maskgit import MaskSchedule, Order, SamplingConfig
from genie.world.prompts import load_prompts
from genie.world.replay import Replay
from genie.world.threads import use_single_thread_if_fast

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item")
VIDEO_ENDINGS = (".mp4", ".mkv", ".mov", ".gif")


def generate(
    world: str | Path,
    prompt: str | Path | None = None,
    *,
    actions: str | None = None,
    frames: int = 32,
    out: str | Path = "clip.mp4",
    seed: int = 0,
    steps: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    guidance: float | None = None,
    mapper: str | Path | None = None,
    order: Order | None = None,
    mask_schedule: MaskSchedule | None = None,
    scale: int = 4,
    device: Device | None = None,
    dtype: Dtype = "float32",
    progress: bool = True,
) -> list[Path]:
    """Plays a list of actions and writes the prompt and all frames after it.

    Args:
        world: folder of a world, or its id on the Hugging Face Hub.
        prompt: image to start from; one that came with the world when left out.
        actions: latent actions such as 1,1,2,0, or real ones by name such as left,left,jump, which
            need a mapper; random ones when left out.
        frames: number of frames to generate when no actions are given.
        out: .mp4, .mkv, .mov or .gif; or .png, which writes one numbered image per frame.
        seed: determines all random numbers.
        steps: MaskGIT steps per frame; the world's own when left out, as all of its sampling.
        temperature: divides the logits; 0 takes the most likely token.
        top_k: sample from this many of the most likely tokens only; 0 means all.
        guidance: strength of classifier-free guidance by the action; doubles the time of a frame.
        mapper: folder of the mapper of real actions (`genie map`); WORLD/mapper when left out.
        order: tokens that are kept first.
        mask_schedule: how many tokens are still masked after each MaskGIT step.
        scale: factor by which the world's frames are enlarged.
        device: where to run; chosen when left out.
        dtype: type of the weights; bfloat16 is faster for wide worlds on most machines.
        progress: show a progress bar.

    Returns:
        The files written.

    Raises:
        UserError: an action or file ending does not exist, the world or image was not found, or
            the world has another version.
    """
    out = Path(out)
    _check_output(out, scale)
    require(frames >= 1, f"frames: {frames}, must be at least 1")
    seed = seed_of(seed)
    sequence = None if actions is None else inputs.parse_actions(actions)
    folder = world_folder(world)
    genie = Genie.from_pretrained(folder, device, dtype)
    config = genie.config
    start = load_prompts(prompt, config.height, config.width, folder)[0]
    chosen = {
        "steps": steps,
        "temperature": temperature,
        "top_k": top_k,
        "guidance": guidance,
        "order": order,
        "mask_schedule": mask_schedule,
    }
    sampling = replace(config.sampling, **{k: v for k, v in chosen.items() if v is not None})
    inputs.check_guidance(sampling.guidance, config.dynamics.unconditional_fraction)
    if sequence is None:
        sequence = np.random.default_rng(seed).integers(config.num_actions, size=frames).tolist()
    named = _mapper_for(sequence, genie, folder if mapper is None else mapper)
    with _single_thread_if_fast(genie):
        pictures = _frames(genie, start, sequence, seed, sampling, progress, named)
        return _write(out, pictures, config.fps, scale)


def replay(
    file: str | Path,
    *,
    world: str | Path | None = None,
    out: str | Path = "clip.mp4",
    scale: int = 4,
    device: Device | None = None,
    progress: bool = True,
) -> list[Path]:
    """Plays a replay file again and writes the prompt and all frames after it.

    Args:
        file: a replay that the page saved.
        world: folder of the game's world, its id on the Hugging Face Hub or the name of a bundled
            world. It is found by the name in the file when left out.
        out: .mp4, .mkv, .mov or .gif; or .png, which writes one numbered image per frame.
        scale: factor by which the world's frames are enlarged.
        device: where to run; chosen when left out. Frames are equal on the device and machine of
            the game. Elsewhere rounding may change them. In bfloat16 they also depend on other
            players and on compiling.
        progress: show a progress bar.

    Returns:
        The files written.

    Raises:
        UserError: the file is not a replay, the world is another one, or the file ending does not
            exist.
    """
    out = Path(out)
    _check_output(out, scale)
    game = Replay.read(file)
    folder = _world_of(game) if world is None else world
    genie = Genie.from_pretrained(folder, device, game.dtype)
    if game.device != genie.device.type:
        warnings.warn(
            f"this game was computed by {game.device}, and is now by {genie.device.type}: rounding "
            "differs, so tokens may too, and from there on the games differ",
            stacklevel=2,
        )
    frames = game.frames(genie)
    every = _tracked(frames, len(game.prompt) + len(game.actions), progress)
    with _single_thread_if_fast(genie):
        return _write(out, every, game.fps, scale)


def _single_thread_if_fast(genie: Genie) -> AbstractContextManager[int]:
    """Uses a single CPU thread if that generates frames in real time."""
    config = genie.config
    state = genie.start(np.zeros((config.height, config.width, 3), np.uint8))
    return use_single_thread_if_fast(lambda: genie.step(state, 0), 1 / config.fps)


def _world_of(game: Replay) -> str | Path:
    if game.world in bundled.names():
        return game.world
    for folder in (Path(game.world), Path("runs") / game.world):
        # The file may come from anywhere: its world's name is a name, not a path.
        if Path(game.world).name == game.world and (folder / checkpoint.CONFIG).is_file():
            return folder
    raise UserError(f"the replay was played in {game.world}: say where that is with --world FOLDER")


def _check_output(out: Path, scale: int) -> None:
    known = (*VIDEO_ENDINGS, ".png")
    require(out.suffix.lower() in known, f"out: {out} should end in one of {', '.join(known)}")
    require(scale >= 1, f"scale: {scale}, must be at least 1")


def _mapper_for(
    actions: Sequence[int] | Sequence[str], genie: Genie, folder: str | Path
) -> ActionMapper | None:
    """Returns the mapper that actions by name need, after a check that it has them."""
    if not isinstance(actions[0], str):
        return None
    mapper = ActionMapper.from_pretrained(folder, genie)
    mapper.indices_of(actions, len(actions))
    return mapper


def _frames(
    genie: Genie,
    prompt: np.ndarray,
    actions: Sequence[int] | Sequence[str],
    seed: int,
    sampling: SamplingConfig,
    progress: bool,
    mapper: ActionMapper | None,
) -> Iterator[np.ndarray]:
    if mapper is None:
        actions = inputs.check_action_sequence(actions, genie.config.num_actions, 1)[0].tolist()
    yield from prompt[None] if prompt.ndim == 3 else prompt
    state = genie.start(prompt, seed)
    for action in _tracked(actions, len(actions), progress):
        latent = action if mapper is None else mapper.to_latent(state.frame, action)
        frame, state = genie.step(state, latent, sampling)
        yield _picture(frame)


def _picture(frame: Tensor) -> np.ndarray:
    return frame.cpu().numpy()


def _tracked(items: Iterable[Item], total: int, progress: bool) -> Iterator[Item]:
    with Progress("generating", total, unit="frames", show=progress, transient=True) as bar:
        yield from bar.track(items)


def _write(out: Path, frames: Iterator[np.ndarray], fps: float, scale: int) -> list[Path]:
    from genie.data.video import write_video

    first = next(frames)  # bad input leaves no folder behind
    out.parent.mkdir(parents=True, exist_ok=True)
    every = itertools.chain([first], frames)
    if out.suffix.lower() != ".png":
        # Browsers play 4:2:0 only; enlarged pixels lose nothing by it.
        pixels = "yuv444p" if scale == 1 else "yuv420p"
        return [write_video(out, every, fps, scale=scale, pixel_format=pixels)]
    return [_write_picture(out, i, frame, scale) for i, frame in enumerate(every)]


def _write_picture(out: Path, index: int, frame: np.ndarray, scale: int) -> Path:
    path = out.with_name(f"{out.stem}-{index:04d}.png")
    with replacing(path) as part:
        part.write_bytes(png(frame, scale))
    return path
