"""Is the avatar there? A detector that learns by itself, for games whose camera follows the avatar.

In such a game the avatar stands in the middle of every frame. So crops of the middle are examples
of it and crops elsewhere in the same frames are not, and no label is needed. Held-out levels show
whether the game is of that kind. The detector's results are left out if it cannot tell the two
apart there. They are also left out if a detector of another place of the frame does as well.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from genie.evaluation.metrics.context import Evaluation
from genie.evaluation.metrics.observations import AvatarFinder, SeesAvatar

if TYPE_CHECKING:
    from genie.data.store import ClipStore

MIN_ACCURACY = 0.95
"""Balanced accuracy on held-out levels from which on the detector is believed."""
MAX_CONTROL_ACCURACY = 0.9
"""The same for a detector of another place: then it is not an avatar that makes a place special."""
STEPS, BATCH, EVALUATED = 200, 32, 512
LEARNING_RATE = 2e-3
INFERENCE_BATCH = 1024


class AvatarDetector(nn.Module):
    """Says of each frame whether the avatar is in the middle of it.

    Args:
        frame_size: height and width in pixels; a crop is a quarter as wide as the shorter side.
        control_offset: look for whatever is so many crops to the right of the middle instead.
    """

    def __init__(self, frame_size: tuple[int, int], control_offset: float = 0.0):
        super().__init__()
        self.frame_size, self.side = frame_size, max(8, min(frame_size) // 4)
        row, column = ((length - self.side) // 2 for length in frame_size)
        self.place = (row, column + round(control_offset * self.side))
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * (self.side // 4) ** 2, 32),
            nn.ReLU(),
            nn.Linear(32, 1),
        )

    def forward(self, crops: UInt8[Tensor, "n s s 3"]) -> Float[Tensor, " n"]:
        """Logit of the avatar being in each crop."""
        pixels = crops.movedim(-1, 1).float() / 127.5 - 1
        return self.layers(pixels)[:, 0]

    @torch.no_grad()
    def visible(self, frames: UInt8[Tensor, "*batch h w 3"]) -> Bool[Tensor, "*batch"]:
        """Whether the avatar is in the middle of each frame."""
        row, column = self.place
        crops = frames[..., row : row + self.side, column : column + self.side, :]
        found = [self(part) > 0 for part in crops.flatten(0, -4).split(INFERENCE_BATCH)]
        return torch.cat(found).reshape(frames.shape[:-3])


def train_detector(
    store: ClipStore,
    train: str,
    held_out: str,
    seed: int = 0,
    device: str | torch.device = "cpu",
    steps: int = STEPS,
    control_offset: float = 0.0,
) -> tuple[AvatarDetector, float]:
    """Trains the detector on one split and judges it on another.

    Crops of the middle are shifted by up to a quarter of a crop. Otherwise, in a game of square
    cells, the detector would learn how the cells lie in a crop.

    Args:
        store: the clip store.
        train: split whose episodes it learns from.
        held_out: split whose episodes it is judged on.
        seed: of weights and crops.
        device: where to train.
        steps: optimizer steps, each of 32 crops of the middle and 32 others.
        control_offset: as for `AvatarDetector`.

    Returns:
        The detector, and its balanced accuracy: the mean of the shares of crops of the middle and
        of other crops that it takes for what they are.
    """
    rng = np.random.default_rng([seed, 11])
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        detector = AvatarDetector((store.height, store.width), control_offset).to(device)
        optimizer = torch.optim.Adam(detector.parameters(), LEARNING_RATE)
        known = _frames(store, train)
        target = (torch.arange(2 * BATCH, device=device) < BATCH).float()
        for _ in range(steps):
            crops = torch.cat(_crops(store, rng.choice(known, BATCH), detector, rng))
            loss = F.binary_cross_entropy_with_logits(detector(crops.to(device)), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    detector.eval().requires_grad_(False)
    frames = rng.choice(_frames(store, held_out), EVALUATED)
    crops = _crops(store, frames, detector, rng)
    found = [(detector(part.to(device)) > 0).float().mean() for part in crops]
    return detector, ((found[0] + 1 - found[1]) / 2).item()


def _crops(
    store: ClipStore, chosen: np.ndarray, detector: AvatarDetector, rng: np.random.Generator
) -> tuple[UInt8[Tensor, "n s s 3"], UInt8[Tensor, "n s s 3"]]:
    """Crops of the place in the middle, and crops of the same frames well beside it."""
    frames, side = np.asarray(store.windows(chosen, 1))[:, 0], detector.side
    place, room = np.array(detector.place), np.array(detector.frame_size) - side
    shifts = rng.integers(-(side // 4), side // 4 + 1, size=(len(frames), 2))
    drawn = rng.integers(room + 1, size=(64, len(frames), 2))
    far = np.abs(drawn - place).max(-1) >= side
    others = np.take_along_axis(drawn, far.argmax(0)[None, :, None], 0)[0]
    near, elsewhere = (
        np.stack([f[y : y + side, x : x + side] for f, (y, x) in zip(frames, at, strict=True)])
        for at in ((place + shifts).clip(0, room), others)
    )
    return torch.from_numpy(near), torch.from_numpy(elsewhere)


def _frames(store: ClipStore, split: str) -> np.ndarray:
    spans = [np.arange(e.start, e.start + e.length) for e in store.episodes if e.split == split]
    return np.concatenate([np.empty(0, np.int64), *spans])


def find_avatar(
    store: ClipStore, train: str, held_out: str, seed: int, device: str | torch.device
) -> tuple[AvatarDetector | None, dict[str, Any]]:
    """Trains a detector, and a second one for another place that shows what is too easy.

    Returns:
        The detector, or None where it is not accurate, and what a report says about it: its
        `balanced_accuracy`, that of the second one (`control`), and why it was `skipped`.
    """
    if not any(e.split == train for e in store.episodes):
        return None, {"skipped": f"there is no {train!r} split to learn from."}
    learn = partial(train_detector, store, train, held_out, seed, device, STEPS)
    detector, accuracy = learn()
    found: dict[str, Any] = {"balanced_accuracy": accuracy, "required": MIN_ACCURACY}
    if accuracy < MIN_ACCURACY:
        found["skipped"] = (
            f"on levels that it was not trained on the detector told the middle of the frame from "
            f"the rest with a balanced accuracy of {accuracy:.2f}; {MIN_ACCURACY} is asked for. "
            "The camera of this game does not seem to follow an avatar."
        )
        return None, found
    found["control"] = learn(control_offset=1.25)[1]
    if found["control"] >= MAX_CONTROL_ACCURACY:
        found["skipped"] = (
            f"a detector of a place beside the middle does as well (a balanced accuracy of "
            f"{found['control']:.2f}): places of this game's frames differ by more than an avatar."
        )
        return None, found
    return detector, found


def _find(evaluation: Evaluation) -> tuple[SeesAvatar | None, dict[str, Any]]:
    config, device = evaluation.config, evaluation.world.device
    detector, found = find_avatar(evaluation.store, "train", config.split, config.seed, device)
    return detector and detector.visible, found


FINDER = AvatarFinder(_find)
