"""Persistency: an object in view of a player who stands still is there as long as one looks.

The world plays on from a prompt with its stillest action. Two kinds of objects are looked for:
pieces of the prompt itself, and pieces of another held-out frame that are pasted into it. In a real
game nothing that is in view goes away then, so a still picture is the ceiling. What is pasted may
be unlike anything that the world saw. No true action is needed, but a game in which a player can
stand still.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from genie.data.clips import ClipBatches
from genie.evaluation.figures import Figure, sheet_figure
from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.evaluation.metrics.metric import Headline, Metric, Section
from genie.evaluation.metrics.separation import frame_distance
from genie.evaluation.protocol.rollouts import RolloutPlayer

SECONDS = 3.0
STANDING_FRAMES = 4
"""Frames after the prompt in which the real video must change little, so that the player stands."""
CANDIDATES = PIECES = 64
"""Clips looked at for each prompt, and pieces for each object."""
ACTION_PROMPTS, ACTION_STEPS = 8, 4
CONTRAST = 40.0
"""Mean grey levels by which an object must differ from what it covers."""
FOUND = 0.5
"""An object is there where a frame differs from it by at most this share of that difference."""


@dataclass(frozen=True)
class Objects:
    """Square pieces of frames, and where they lie.

    Attributes:
        pieces: as the world sees them.
        places: row and column of their corners.
        contrast: mean difference from what they cover, in grey levels.
    """

    pieces: UInt8[Tensor, "N s s 3"]
    places: Int[Tensor, "N 2"]
    contrast: Float[Tensor, " N"]

    def found(self, frames: UInt8[Tensor, "N T H W 3"]) -> Bool[Tensor, "N T"]:
        """Returns in which frames the objects are, at most half their size from their place."""
        return torch.stack([self._found(i, clip) for i, clip in enumerate(frames)])

    def _found(self, index: int, frames: UInt8[Tensor, "T H W 3"]) -> Bool[Tensor, " T"]:
        side, piece = self.pieces.shape[1], self.pieces[index].float()
        first = (self.places[index] - side // 2).clamp_min(0).tolist()
        last = (self.places[index] + side // 2 + side).tolist()
        around = frames[:, first[0] : last[0], first[1] : last[1]].float()
        windows = around.unfold(1, side, 1).unfold(2, side, 1)
        error = (windows - piece.movedim(-1, 0)).abs().mean((-3, -2, -1))
        return error.amin((1, 2)) <= FOUND * self.contrast[index]


def persistency(evaluation: Evaluation, seconds: float = SECONDS) -> dict[str, Any]:
    """Stands still, and looks for the objects of prompts, and for pasted ones, in every frame.

    Prompts are those after which the real video changes least. A pasted object is a piece of
    another prompt, beside the middle of the frame. Only objects count that still differ by
    `CONTRAST` from what they cover once the tokenizer has seen them; `shown` is the share that
    does. An object is there where a frame differs from it by at most half of that, within half its
    size.

    `world` are the games, and `without` are the same games without objects, which is chance. A
    real game in which the player stands shows all of them to the end. The action that is held is
    the one that changes prompts of training levels least.

    `own` are pieces of the prompts themselves, as the tokenizer shows them, which differ by
    `CONTRAST` from what is above, below, left and right of them. Chance is a game of another
    episode, in which the same piece is looked for.
    """
    config, world = evaluation.config, evaluation.world
    steps = max(1, round(seconds * world.config.fps))
    games = max(2, config.closed_loop_games // 4)
    clips = standing_prompts(evaluation, config.split, 2 * games)
    prompts = torch.cat(list(clips))
    pasted, places, tried = paste_objects(prompts, config.seed)
    objects, shown = see_objects(evaluation.player, prompts, pasted, places)
    shown &= tried
    if shown.sum() < 2:
        raise Skipped(
            f"the tokenizer shows {int(shown.sum())} of {int(tried.sum())} objects that were "
            "pasted into frames."
        )
    action, kept = stillest_action(evaluation), shown.nonzero()[:games, 0]
    objects = Objects(objects.pieces[kept], objects.places[kept], objects.contrast[kept])
    held, parts = torch.full((len(kept), steps), action), -(-len(kept) // config.batch)
    with evaluation.playing("Persistency", 2 * steps * parts) as player:
        played, empty = (
            player.play_on(part[kept], held, config.seed) for part in (pasted, prompts)
        )
    own = _own_section(evaluation, prompts, clips.episodes, action, steps)
    evaluation.figures.append(_figure(played, world.config.fps, config.figure_clips))
    there = {"world": objects.found(played[:, 1:]), "without": objects.found(empty[:, 1:])}
    return {
        "games": len(kept),
        "shown": shown.sum().item() / tried.sum().item(),
        "steps": steps,
        "seconds": steps / world.config.fps,
        "action": action,
        "side": objects.pieces.shape[1],
        **{
            name: _summary(part, clips.episodes[kept], world.config.fps)
            for name, part in there.items()
        },
        "curves": {name: part.float().mean(0).tolist() for name, part in there.items()},
        **({"own": own} if own else {}),
    }


def _own_section(
    evaluation: Evaluation,
    prompts: UInt8[Tensor, "N P H W 3"],
    episodes: Int[Tensor, " N"],
    action: int,
    steps: int,
) -> Section | None:
    """Objects that prompts have, and whether they stay; None without two episodes that have any."""
    config = evaluation.config
    objects, shown = own_objects(evaluation.player.rebuilt(prompts)[:, -1], config.seed)
    kept = shown.nonzero()[: max(2, config.closed_loop_games // 4), 0]
    episodes = episodes[kept]
    if len(episodes.unique()) < 2:
        return None
    objects = Objects(objects.pieces[kept], objects.places[kept], objects.contrast[kept])
    held, parts = torch.full((len(kept), steps), action), -(-len(kept) // config.batch)
    with evaluation.playing("Objects of the prompts", steps * parts) as player:
        played = player.play_on(prompts[kept], held, config.seed)[:, 1:]
    there = {"world": objects.found(played), "without": objects.found(played[_others(episodes)])}
    fps = evaluation.world.config.fps
    return {"games": len(kept), **{name: _summary(p, episodes, fps) for name, p in there.items()}}


def _others(episodes: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
    """Returns for each game the next one, cyclically, of another episode."""
    games = torch.arange(len(episodes))
    turned = (games[:, None] + games) % len(games)
    differs = episodes[turned] != episodes[:, None]
    return turned[games, differs.int().argmax(1)]


def _summary(there: Bool[Tensor, "N T"], episodes: Int[Tensor, " N"], fps: float) -> Section:
    """The share at the end, and for how many seconds objects are there."""
    shown = there.float()
    return {
        "end": formulas.interval_over_episodes(shown[:, -1], episodes),
        "seconds": formulas.interval_over_episodes(shown.sum(1) / fps, episodes),
    }


def standing_prompts(evaluation: Evaluation, split: str, count: int) -> ClipBatches:
    """Returns the prompts of a split, of many clips, at which the player stands.

    In all of the next frames the real video differs least from them, measured by how much it would
    by scrolling. So a player who moves where there is nothing to see does not count as standing.
    """
    frames = evaluation.config.prompt_frames
    clips = evaluation.select(frames + STANDING_FRAMES, CANDIDATES * count, split=split)
    change = list[Tensor]()
    for clip in clips:
        now, later = clip[:, frames - 1], clip[:, frames:]
        scrolled = torch.stack([frame_distance(now, now.roll(2, axis)) for axis in (1, 2)]).amin(0)
        moved = 1 + frame_distance(now[:, None], later).amax(1)
        change.append((moved / scrolled.clamp_min(1e-3)).cpu())
    stillest = torch.cat(change).argsort(stable=True)[:count].numpy()
    return evaluation.batches(clips.starts[stillest], frames)


def stillest_action(evaluation: Evaluation) -> int:
    """Returns the action that changes the prompts of training levels least when it is held."""
    if not any(episode.split == "train" for episode in evaluation.store.episodes):
        raise Skipped("there is no 'train' split to find the stillest action on.")
    prompts = torch.cat(list(standing_prompts(evaluation, "train", ACTION_PROMPTS)))
    start = evaluation.player.rebuilt(prompts)[:, -1]
    games = len(prompts) * evaluation.world.config.num_actions
    total = ACTION_STEPS * -(-games // evaluation.config.batch)
    with evaluation.playing("The stillest action", total) as player:
        held = player.hold_all(prompts, 1, evaluation.config.seed, ACTION_STEPS)
    change = frame_distance(held[:, :, 0, -1], start[:, None])
    return int(change.mean(0).argmin())


def paste_objects(
    prompts: UInt8[Tensor, "N P H W 3"], seed: int
) -> tuple[UInt8[Tensor, "N P H W 3"], Int[Tensor, "N 2"], Bool[Tensor, " N"]]:
    """Pastes a piece of another prompt into each, at the place where it lay.

    It is the first of several random pieces that differs enough from what it covers. It lies beside
    the middle, where an avatar often is.

    Returns:
        Prompts with the objects in all their frames; rows and columns of the objects' corners; and
        which prompts got one.
    """
    count, windows = len(prompts), _windows(prompts[:, -1])
    side = windows.shape[-1]
    room, rng = np.array(windows.shape[1:3]), np.random.default_rng([seed, 19])
    own = np.arange(count)[:, None]
    other = (own + rng.integers(1, max(2, count), size=(count, PIECES))) % count
    places = rng.integers(room, size=(count, PIECES, 2))
    y, x = np.moveaxis(places, -1, 0)
    contrast = frame_distance(windows[other, y, x], windows[own, y, x]).cpu()
    fits = (contrast >= CONTRAST) & _beside(places, room, side)
    first, pasted = fits.int().argmax(1), prompts.clone()
    chosen = torch.from_numpy(places)[torch.arange(count), first]
    for i, (row, column) in enumerate(chosen.tolist()):
        spot = (..., slice(row, row + side), slice(column, column + side), slice(None))
        pasted[i][spot] = prompts[other[i, first[i]], -1][spot]
    return pasted, chosen, fits.any(1)


def own_objects(frames: UInt8[Tensor, "N H W 3"], seed: int) -> tuple[Objects, Bool[Tensor, " N"]]:
    """Returns a piece of each frame that differs from all four neighbours, and which have one.

    It is the first of several random pieces that lies beside the middle, where an avatar often is.
    Its contrast is the difference from the neighbour that is most like it.
    """
    count, windows = len(frames), _windows(frames)
    side = windows.shape[-1]
    room, rng = np.array(windows.shape[1:3]), np.random.default_rng([seed, 20])
    places = rng.integers(side, room - side, size=(count, 4 * PIECES, 2))
    own, (y, x) = np.arange(count)[:, None], np.moveaxis(places, -1, 0)
    around = [(side, 0), (-side, 0), (0, side), (0, -side)]
    pieces = windows[own, y, x]
    contrast = torch.stack(
        [frame_distance(pieces, windows[own, y + down, x + right]) for down, right in around]
    ).amin(0)
    fits = (contrast.cpu() >= CONTRAST) & _beside(places, room, side)
    first, each = fits.int().argmax(1), torch.arange(count)
    chosen = torch.from_numpy(places)[each, first]
    return Objects(crops(frames, chosen), chosen, contrast.cpu()[each, first]), fits.any(1)


def _beside(places: np.ndarray, room: np.ndarray, side: int) -> Bool[Tensor, "N pieces"]:
    """Which places lie at least their size beside the middle."""
    return torch.from_numpy(np.abs(2 * places + 1 - room).max(-1) >= 2 * side)


def see_objects(
    player: RolloutPlayer,
    prompts: UInt8[Tensor, "N P H W 3"],
    pasted: UInt8[Tensor, "N P H W 3"],
    places: Int[Tensor, "N 2"],
) -> tuple[Objects, Bool[Tensor, " N"]]:
    """Returns the objects as the tokenizer gives them back, and which of them it shows.

    An object that is seen near its place without having been pasted does not count.
    """
    seen, empty = (player.rebuilt(part)[:, -1:] for part in (pasted, prompts))
    pieces, covered = (crops(part[:, 0], places) for part in (seen, empty))
    objects = Objects(pieces, places, frame_distance(pieces, covered))
    return objects, (objects.contrast >= CONTRAST) & ~objects.found(empty)[:, 0]


def crops(frames: UInt8[Tensor, "N H W 3"], places: Int[Tensor, "N 2"]) -> UInt8[Tensor, "N s s 3"]:
    """Returns the piece of each frame whose upper left corner is given."""
    windows, (y, x) = _windows(frames), places.unbind(1)
    return windows[torch.arange(len(frames)), y, x].movedim(1, -1)


def _windows(frames: UInt8[Tensor, "N H W 3"]) -> UInt8[Tensor, "N y x 3 s s"]:
    """All pieces of an eighth of the height or width, of at least 4 pixels."""
    side = max(4, min(frames.shape[1:3]) // 8)
    return frames.unfold(1, side, 1).unfold(2, side, 1)


def _figure(games: UInt8[Tensor, "N T H W 3"], fps: float, most: int) -> Figure:
    """Shows a few games, from the prompt with the object on."""
    times = sorted({round(t) for t in np.linspace(0, games.shape[1] - 1, 7)})
    rows = [(f"game {i + 1}", game[times].numpy()) for i, game in enumerate(games[:most])]
    columns = [f"{t / fps:.1f} s" for t in times]
    caption = "Prompts with an object pasted into them, and the games in which the player stands."
    return sheet_figure("persistency", caption, "persistency", rows, columns)


PERSISTENCY = Metric(
    key="persistency",
    order=48,
    title="Objects in view stay",
    measure=persistency,
    values={"contrast": CONTRAST},
    headlines=(
        Headline(
            name=lambda section: (
                f"Object pasted into view of a standing player, there after "
                f"{section['seconds']:.0f} s, of those in the prompt"
            ),
            value="world.end.mean",
            baseline=("no object was there", "without.end.mean"),
            certain=lambda section: (
                bool(section["world"]["end"]["low"])
                and section["world"]["end"]["low"] > section["without"]["end"]["mean"]
            ),
            limits=(0.7, 0.3),
            good="What is in view mostly stays.",
            fair="What is in view often disappears.",
            poor="What is in view disappears.",
        ),
        Headline(
            name=lambda section: (
                f"Object of the prompt beside a standing player, there after "
                f"{section['seconds']:.0f} s"
            ),
            value="own.world.end.mean",
            baseline=("a game of another episode", "own.without.end.mean"),
            certain=lambda section: (
                section["own"]["world"]["end"]["low"] > section["own"]["without"]["end"]["mean"]
            ),
            shown=lambda section: "own" in section,
            limits=(0.7, 0.3),
            good="What the prompt shows stays.",
            fair="What the prompt shows often disappears.",
            poor="What the prompt shows disappears.",
        ),
    ),
)
