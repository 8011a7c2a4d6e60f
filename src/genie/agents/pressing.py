"""`genie press`: a mapper from keys that a person presses to a clip, without labelled data."""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from genie.agents.labelled_steps import LabelledSteps
from genie.agents.mapper import Information, fit_mapper
from genie.agents.mapper_report import measure_mapper
from genie.core.config import UserError, require
from genie.core.io import replacing
from genie.data.images import png
from genie.data.video import read_video
from genie.evaluation.metrics import formulas
from genie.world.action_mapper import FOLDER, Kind, latent_actions_hash
from genie.world.action_names import writable_folder
from genie.world.prompts import load_prompts

if TYPE_CHECKING:
    from genie.world.genie import Genie

NOTHING = "noop"
KEYS = {"left": "ArrowLeft", "right": "ArrowRight", "up": "ArrowUp", "down": "ArrowDown"}
"""Keys of the browser; the key of any other name is its first letter that no other name has."""
HOLD, SEGMENT = 12, 4
"""Steps that the world holds each latent action, and how many it holds before it starts anew."""
LONGEST_DELAY = 0.8
"""Seconds; nobody reacts later."""
COLUMNS = 30


@dataclass(frozen=True)
class Clip:
    """What a person sees.

    Attributes:
        frames: in order.
        latent: the latent action from each frame to the next; -1 where the next is no successor.
        fps: frames per second.
        source: what it shows, for the report.
    """

    frames: UInt8[Tensor, "n h w 3"]
    latent: Int[Tensor, " n"]
    fps: float
    source: str

    def sheet(self) -> UInt8[np.ndarray, "rows columns 3"]:
        """Returns one picture that holds all frames, `COLUMNS` in a row."""
        missing = -len(self.frames) % COLUMNS
        padded = torch.cat(
            [self.frames, torch.zeros_like(self.frames[:1]).expand(missing, -1, -1, -1)]
        )
        rows = padded.unflatten(0, (-1, COLUMNS)).permute(0, 2, 1, 3, 4)
        return rows.flatten(2, 3).flatten(0, 1).numpy()


def played_clip(world: Genie, seconds: float = 60.0, seed: int = 0, prompts: Any = None) -> Clip:
    """Lets a world play its own latent actions, each equally often and each for a while.

    It starts anew from another prompt before the picture drifts. The latent actions are known, so
    nothing has to be inferred.

    Args:
        world: that plays.
        seconds: length.
        seed: of the order of actions and of the frames.
        prompts: what it starts from, as `load_prompts` reads it; the world's own when left out.

    Raises:
        UserError: there are no prompts.
    """
    config, rng = world.config, np.random.default_rng([seed, 43])
    starts = load_prompts(prompts, config.height, config.width, world.folder or world)
    frames, latent = list[Tensor](), list[int]()
    wanted, orders = round(seconds * config.fps), list[int]()
    while len(frames) < wanted:
        state = world.start(starts[int(rng.integers(len(starts)))], int(rng.integers(2**31)))
        frames.append(state.frame.cpu())
        for _ in range(SEGMENT):
            orders = orders or rng.permutation(config.num_actions).tolist()
            action = orders.pop()
            for _ in range(HOLD):
                frame, state = world.step(state, action)
                frames.append(frame.cpu())
                latent.append(action)
        latent.append(-1)
    return Clip(torch.stack(frames), torch.tensor(latent), config.fps, "the world's own play")


def video_clip(world: Genie, path: str | Path, seconds: float = 60.0) -> Clip:
    """Reads the beginning of a video of the game, and infers its latent actions.

    Args:
        world: whose latent actions are inferred.
        path: of the video.
        seconds: how much of it is read.

    Raises:
        UserError: the video cannot be read, or has one frame only.
    """
    config = world.config
    frames, due = list[np.ndarray](), 0.0
    for time, frame in read_video(path, height=config.height, width=config.width, fit="crop"):
        if time >= seconds:
            break
        if time + 1e-6 >= due:
            frames.append(frame)
            due = len(frames) / config.fps
    require(len(frames) > 1, f"{path}: a clip needs at least two frames")
    shown = torch.from_numpy(np.stack(frames))
    latent = world.actions.infer(shown[None].to(world.device))[0].cpu()
    return Clip(shown, torch.cat([latent, torch.tensor([-1])]), config.fps, Path(path).name)


def keys_of(names: Sequence[str]) -> dict[str, str]:
    """Returns the key of each name: arrows for directions, else a letter.

    Args:
        names: of actions; those of several keys are joined by "+", such as "right+up".

    Raises:
        UserError: no letter of a name is free.
    """
    parts = dict.fromkeys(part for name in names for part in name.split("+") if part != NOTHING)
    taken = dict[str, str]()
    for part in parts:
        letters = [
            f"Key{letter.upper()}" for letter in part if letter.isascii() and letter.isalpha()
        ]
        free = [key for key in [KEYS.get(part, ""), *letters] if key and key not in taken.values()]
        require(len(free) > 0, f"names: there is no key left for {part!r}; use fewer names")
        taken[part] = free[0]
    return taken


@dataclass(frozen=True)
class Pressed:
    """What the page sends.

    Attributes:
        held: for each frame that was shown the parts of names whose keys were held, such as
            ["right", "up"]; None where the person said that they could not tell.
    """

    held: list[list[str] | None]


def labels_of(held: Sequence[Sequence[str] | None], names: Sequence[str]) -> Int[Tensor, " n"]:
    """Returns the number of the action whose keys were held at each frame; -1 for none."""
    known = {frozenset(name.split("+")) - {NOTHING}: number for number, name in enumerate(names)}
    return torch.tensor([-1 if one is None else known.get(frozenset(one), -1) for one in held])


def labelled_steps(
    clip: Clip, labels: Int[Tensor, " n"], delay: int, names: Sequence[str], num_actions: int
) -> LabelledSteps:
    """Returns the steps whose label is known, with the key that was held `delay` frames later."""
    steps = torch.arange(len(clip.latent) - delay)
    true = labels[steps + delay]
    chosen = steps[(clip.latent[steps] >= 0) & (true >= 0)]
    frames = torch.stack([clip.frames[chosen], clip.frames[chosen + 1]], 1)
    own = clip.latent[chosen], labels[chosen + delay]
    return LabelledSteps(frames, *own, torch.zeros_like(chosen), tuple(names), num_actions)


def best_delay(
    clip: Clip, labels: Int[Tensor, " n"], names: Sequence[str], num_actions: int
) -> tuple[int, list[float]]:
    """Estimates how many frames later than they saw it people pressed a key.

    Returns:
        The delay at which keys and latent actions tell most about each other, and their mutual
        information in nats at each delay from 0 on.
    """
    longest = min(round(LONGEST_DELAY * clip.fps), len(labels) // 4)
    told = [
        formulas.mutual_information(labelled_steps(clip, labels, delay, names, num_actions).counts)
        for delay in range(longest + 1)
    ]
    return int(np.argmax(told)), told


class Pressing:
    """Shows a clip, takes the keys that were pressed, and makes a mapper of them.

    Args:
        world: whose latent actions get names.
        clip: that is shown.
        names: of the real actions, in the order of their numbers.
        folder: of the mapper.
        kind: of the mapper.
        delay: seconds between what is seen and the key; None estimates it.
        on_made: called with the report when the mapper is saved.
    """

    def __init__(
        self,
        world: Genie,
        clip: Clip,
        names: Sequence[str],
        folder: Path,
        *,
        kind: Kind = "dictionary",
        delay: float | None = None,
        on_made: Callable[[dict[str, Any]], None] = lambda report: None,
    ) -> None:
        require(delay is None or 0 <= delay <= 5, "delay: expected seconds from 0 to 5")
        require(len(set(names)) == len(names) > 1, "names: expected at least two different ones")
        self.world, self.shown, self.names, self.folder = world, clip, list(names), folder
        self.kind: Kind = kind
        self.keys, self.delay, self.on_made = keys_of(names), delay, on_made

    def add_to(self, app: Any) -> None:
        """Adds the requests of the page to a FastAPI application."""
        app.get("/press/clip", tags=["press"])(self.clip)
        app.post("/press/held", tags=["press"])(self.held)

    def clip(self) -> dict[str, Any]:
        """Returns the clip as a sheet of frames in base64, and the key of each name."""
        count, height, width, _ = self.shown.frames.shape
        size = {"count": count, "height": height, "width": width, "columns": COLUMNS}
        sheet = base64.b64encode(png(self.shown.sheet())).decode()
        return {"fps": self.shown.fps, **size, "keys": self.keys, "sheet": sheet}

    def held(self, pressed: Pressed) -> dict[str, Any]:
        """Makes and saves a mapper from the keys that were held at each frame."""
        report = self.make(pressed.held)
        self.on_made(report)
        return report

    def make(self, held: Sequence[Sequence[str] | None]) -> dict[str, Any]:
        """Makes and saves a mapper.

        Args:
            held: as of `Pressed`.

        Returns:
            Its figures, as in `report.json`.

        Raises:
            UserError: the keys are not those of this clip, or too few were pressed.
        """
        count, actions = len(self.shown.frames), self.world.config.num_actions
        require(len(held) == count, f"held: {len(held)} frames, the clip has {count}")
        labels = labels_of(held, self.names)
        delay, told = best_delay(self.shown, labels, self.names, actions)
        if self.delay is not None:
            delay = min(round(self.delay * self.shown.fps), count - 1)
        steps = labelled_steps(self.shown, labels, delay, self.names, actions)
        _require_names(steps)
        report = {
            "clip": self.shown.source,
            "kind": self.kind,
            "labels": len(steps),
            "delay_seconds": delay / self.shown.fps,
            "delay_estimated": self.delay is None,
            "mutual_information_by_delay": told,
            **self._fit(steps),
        }
        try:
            with replacing(self.folder / "report.json") as path:
                path.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        except OSError as error:
            raise UserError(f"cannot write a report to {self.folder}: {error}") from error
        return report

    def _fit(self, steps: LabelledSteps) -> dict[str, Any]:
        """Saves a mapper of all steps; one of the first three quarters is measured on the rest."""
        own, first = latent_actions_hash(self.world), 3 * len(steps) // 4
        known = Information.of(steps)
        if not known.above_chance:
            warnings.warn(known.warning(len(steps)), stacklevel=4)
        unseen = steps.take(torch.arange(first, len(steps)))
        measured = measure_mapper(fit_mapper(steps.first(first), self.kind, own), unseen)
        commonest = int(steps.first(first).true.bincount().argmax())
        fit_mapper(steps, self.kind, own).save_pretrained(self.folder)
        return {
            "mutual_information": {"found": known.found, "chance_95": known.chance},
            "last_quarter": measured,
            "commonest": (unseen.true == commonest).double().mean().item(),
            "names": {self.names[n]: int((steps.true == n).sum()) for n in steps.true.unique()},
        }


def _require_names(steps: LabelledSteps) -> None:
    pressed = len(steps.true.unique()) if len(steps) else 0
    require(
        pressed > 1 and len(steps) >= 20,
        "too few keys were pressed: hold the keys that would do what you see, in at least twenty "
        "frames and for at least two actions",
    )


def folder_of(world: str | Path, out: str | Path | None) -> Path:
    """Returns where the mapper is saved: beside the world, or in `mappers/NAME`."""
    own = writable_folder(world)
    return (
        Path(out)
        if out is not None
        else (own / FOLDER if own else Path("mappers") / Path(world).name)
    )
