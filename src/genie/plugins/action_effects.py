"""What each action does, measured without labels: which do the same, and which way things move.

Every action is held from the same held-out prompts, several times each with its own noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from genie.core.config import require
from genie.core.progress import progress_bars
from genie.evaluation.protocol.rollouts import RolloutPlayer
from genie.models.layers.pixels import moving_pixels
from genie.plugins.same_actions import GameTest, distances, merge
from genie.plugins.scrolling import MIN_DISTANCE, scroll
from genie.world.action_groups import ActionGroup, ActionGroups, Directions
from genie.world.choose_prompts import candidates

if TYPE_CHECKING:
    from genie.data.store import ClipStore
    from genie.world.genie import Genie

MIN_FRACTION, MIN_GAIN = 0.5, 0.15
"""Of an action's games go the way it is named after, and so many more than of the others'."""
FOLLOWS = 0.2
"""Fraction of games that must scroll, or the camera stands still."""
WIDE = 0.4
"""Fraction of the frame's parts that change when it scrolls. A sprite alone changes fewer."""
WAYS = tuple(field.name for field in fields(Directions))
STAY = "stay"
AXES = {"left": (0, -1), "right": (0, 1), "up": (1, 1), "down": (1, -1)}
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}


@dataclass(frozen=True)
class EffectsConfig:
    """How the effects of actions are measured.

    Attributes:
        prompts: held-out frames from which every action is held.
        repeats: games of each action from each prompt.
        steps: frames for which an action is held.
        batch: games at once.
        permutations: number of permutations of the test.
        seed: determines noise and permutations.
    """

    prompts: int = 48
    repeats: int = 2
    steps: int = 8
    batch: int = 32
    permutations: int = 999
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses sizes that measure nothing."""
        require(self.prompts >= 1, "prompts: expected at least 1")
        require(self.repeats >= 2, "repeats: expected at least 2, or noise is not known")
        require(self.steps >= 2, "steps: expected at least 2")
        require(self.batch >= 1, "batch: expected at least 1")
        require(self.permutations >= 19, "permutations: expected at least 19")


@torch.no_grad()
def measure_actions(
    world: Genie,
    store: ClipStore,
    config: EffectsConfig | None = None,
    names: Sequence[str] = (),
    progress: bool = True,
) -> ActionGroups:
    """Holds every action from held-out prompts and groups those that do the same.

    Args:
        world: the world, which plays with its own sampling.
        store: where prompts are from, frames of the world's size.
        config: how it is measured.
        names: of the actions, where they have some. A named action stands for its group.
        progress: show a progress bar.
    """
    config = config or EffectsConfig()
    starts, _ = candidates(store, config.prompts)
    spread = np.linspace(0, len(starts) - 1, min(config.prompts, len(starts)))
    prompts = torch.from_numpy(store.windows(starts[spread.round().astype(np.int64)], 1))
    games = len(prompts) * world.config.num_actions * config.repeats
    steps = -(-games // config.batch) * config.steps
    with progress_bars(progress)("Held actions", steps) as on_step:
        player = RolloutPlayer(world, config.batch, on_step=on_step)
        held = player.hold_all(prompts.to(world.device), config.repeats, config.seed, config.steps)
    rebuilt = world.tokenizer.decode(world.tokenizer.encode(prompts.to(world.device))).cpu()
    return group_actions(held, rebuilt, config, world.config.sampling.guidance, names)


def group_actions(
    held: UInt8[Tensor, "N A R T H W 3"],
    prompts: UInt8[Tensor, "N 1 H W 3"],
    config: EffectsConfig,
    guidance: float = 0.0,
    names: Sequence[str] = (),
) -> ActionGroups:
    """Groups actions by the frames of their games, as from `RolloutPlayer.hold_all`.

    Args:
        held: games from N prompts with A actions and R repeats.
        prompts: the prompts, as the tokenizer gives them back.
        config: how it was measured.
        guidance: of the sampling.
        names: of the actions.
    """
    count, repeats = held.shape[1:3]
    generator = torch.Generator().manual_seed(config.seed)
    test = GameTest(distances(held.flatten(1, 2)), repeats, config.permutations, generator)
    apart, same = test.pairs(count)
    told = [test.rest(action, count) for action in range(count)]
    effects = _Effects(*movement(held, prompts), MIN_DISTANCE * min(held.shape[4:6]))
    groups: list[ActionGroup] = []
    for members in merge(apart, same):
        # A named action stands for its group, then the one that is told apart most often.
        members.sort(key=lambda action: (not (names and names[action]), -told[action][0]))
        group = effects.describe(members, *told[members[0]])
        taken = {name for action, name in enumerate(names) if action not in members}
        taken |= {other.name for other in groups}
        groups.append(replace(group, name=_free(group.name, taken)))
    groups.sort(key=lambda group: -group.told_apart)
    table = tuple(tuple(_rounded(row)) for row in apart)
    return ActionGroups(len(held) * repeats, held.shape[3], guidance, tuple(groups), table)


# --- which way they move --------------------------------------------------------------------


def movement(
    held: UInt8[Tensor, "N A R T H W 3"], prompts: UInt8[Tensor, "N 1 H W 3"]
) -> tuple[Float[Tensor, "N A R T 2"], bool]:
    """Returns by how many pixels the avatar went right and up in each step, and whether it scrolls.

    Where the camera follows the avatar, the scene scrolls the other way. Where the camera stands
    still, the avatar is what changes from frame to frame.
    """
    actions, repeats = held.shape[1:3]
    found = []
    for games, prompt in zip(held, prompts, strict=True):
        start = prompt[None, None].expand(actions, repeats, -1, -1, -1, -1)
        found.append(torch.cat([start, games], 2).flatten(0, 1))
    shifts = torch.stack([scroll(frames) for frames in found]).float()
    shifts = torch.stack([-shifts[..., 1], shifts[..., 0]], -1)
    far = shifts.sum(2).abs().amax(-1) >= MIN_DISTANCE * min(held.shape[4:6])
    wide = torch.stack([_changed_parts(frames) for frames in found]) >= WIDE
    scrolls = (far & wide).float().mean().item() >= FOLLOWS
    if not scrolls:
        shifts = torch.stack([_path(frames) for frames in found])
    return shifts.unflatten(1, (actions, repeats)), scrolls


def _changed_parts(frames: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, " b"]:
    """In how many of 16 parts of the frame something changes, in the step that changes most."""
    changed = moving_pixels(frames[:, 1:], frames[:, :-1]).float()
    return F.adaptive_max_pool2d(changed, (4, 4)).mean((2, 3)).amax(1)


def _path(frames: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b t-1 2"]:
    """How far the middle of what changes went right and up, 0 where nothing changes."""
    changed = moving_pixels(frames[:, 1:], frames[:, :-1]).float()
    mass = changed.sum((2, 3))
    down = (changed.sum(3) * torch.arange(changed.shape[2])).sum(2) / mass.clamp_min(1)
    right = (changed.sum(2) * torch.arange(changed.shape[3])).sum(2) / mass.clamp_min(1)
    both = (mass[:, 1:] > 0) & (mass[:, :-1] > 0)
    steps = torch.stack([right.diff(dim=1), -down.diff(dim=1)], -1) * both[..., None]
    return torch.cat([torch.zeros_like(steps[:, :1]), steps], 1)


# --- in words -------------------------------------------------------------------------------


class _Effects:
    """What actions do, by the movement of their games.

    Args:
        motion: pixels right and up in each step.
        scrolls: whether the scene scrolls the other way.
        far: pixels that count as going somewhere.
    """

    def __init__(self, motion: Float[Tensor, "N A R T 2"], scrolls: bool, far: float) -> None:
        self.motion, self.scrolls = motion, scrolls
        self.ways = _ways(motion, far)
        self.shares = self.ways.float().mean((0, 2))

    def describe(self, members: list[int], told_apart: float, distinct: bool) -> ActionGroup:
        """Returns the group of some actions by what the first of them does."""
        main = members[0]
        others = [a for a in range(len(self.shares)) if a not in members] or [main]
        usual = self.shares[others].mean(0)
        named = _clear_ways(self.shares[main], usual)
        right, up = _rounded(self.motion[:, main].mean((0, 1, 2)))
        return ActionGroup(
            actions=tuple(members),
            name=" ".join(named),
            effect=self._sentence(main, named, usual),
            told_apart=round(told_apart, 3),
            directions=Directions(*_rounded(self.shares[main])),
            pixels=(right, up),
            distinct=distinct,
        )

    def _sentence(self, action: int, named: list[str], usual: Float[Tensor, " 5"]) -> str:
        games = self.ways[:, action, :, 0].numel()
        said = ", ".join(self._part(action, way, usual) for way in named)
        if not named:
            # Of ways that no action goes more often than others, the most frequent one.
            most = (self.shares[action] - usual) + 1e-3 * self.shares[action]
            most[self.shares[action] == 0] = -torch.inf
            own = WAYS[int(most.argmax())]
            said = f"no clear direction; {self._part(action, own, usual)}"
        return f"{said[0].upper()}{said[1:]}, of {games} games."

    def _part(self, action: int, way: str, usual: Float[Tensor, " 5"]) -> str:
        i = -1 if way == STAY else WAYS.index(way)
        went = self.ways[:, action, :, i]
        often = f"in {went.float().mean():.0%} (other actions {usual[i]:.0%})"
        if way not in AXES:
            return f"hardly moves {often}"
        axis, sign = AXES[way]
        speed = (sign * self.motion[:, action][went][..., axis]).clamp_min(0).mean()
        seen = f" (the scene scrolls {OPPOSITE[way]})" if self.scrolls else ""
        return f"goes {way} {speed:.1f} px a step{seen} {often}"


def _ways(motion: Float[Tensor, "*games T 2"], far: float) -> Bool[Tensor, "*games 5"]:
    """Which of `WAYS` games went: to a side in all, up or down at any time, or nowhere."""
    right, up = motion[..., 0].sum(-1), motion[..., 1].cumsum(-1)
    up = torch.cat([torch.zeros_like(up[..., :1]), up], -1)
    rise = (up - up.cummin(-1).values).amax(-1)
    drop = (up.cummax(-1).values - up).amax(-1)
    ways = torch.stack([-right, right, rise, drop], -1) >= far
    return torch.cat([ways, ~ways.any(-1, keepdim=True)], -1)


def _clear_ways(shares: Float[Tensor, " 5"], usual: Float[Tensor, " 5"]) -> list[str]:
    """The ways that an action is named after, such as "up" and "right", or "stay"."""
    gain = dict(zip(WAYS, (shares - usual).tolist(), strict=True))
    clear = ((shares >= MIN_FRACTION) & (shares - usual >= MIN_GAIN)).tolist()
    found = {way for way, is_clear in zip(WAYS, clear, strict=True) if is_clear}
    pairs = [found & {"up", "down"}, found & {"left", "right"}]
    ways = [max(sorted(pair), key=gain.__getitem__) for pair in pairs if pair]
    return ways or ([STAY] if "still" in found else [])


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number behind it where another action has it."""
    if not name or name not in taken:
        return name
    return next(f"{name} {i}" for i in itertools.count(2) if f"{name} {i}" not in taken)


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 3) for value in values.tolist()]
