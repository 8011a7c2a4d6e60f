"""Whether a world does what its buttons say, read off the frames that it draws.

The inverse-dynamics network, trained on real video alone, reads back which true action each drawn
step looks like. It judges all games by one measure, scrolling or not, and it judges the real game
by the same one, which is the most that a world can reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from genie.evaluation.metrics import formulas
from genie.evaluation.protocol.clips import ClipBatches
from genie.evaluation.protocol.held_actions import HeldActionGames
from genie.evaluation.protocol.rollouts import OnStep, ignore_step

if TYPE_CHECKING:
    from genie.data.store import ClipStore
    from genie.evaluation.metrics.action_classifier import ActionClassifier
    from genie.evaluation.metrics.sections import Rollouts
    from genie.world.genie import Genie

ACTIONS = "actions"
"""Name of the look at held games that reads their actions."""
MIN_HOLD = 4
REAL_GAMES = 20
"""Real stretches of an action that are needed to compare with; with fewer, shorter are taken."""


# --- action following -----------------------------------------------------------------------


@dataclass
class ActionFollowing:
    """Reads the true action back from rollouts, batch by batch; `update` is for `rollouts`.

    Attributes:
        world: what plays.
        classifier: reads the actions.
        true: true actions of the steps after the prompt, -1 where unknown; clips in their order.
        prompt_frames: real frames that a rollout starts from.
        predicted: what was read so far, by what was looked at.
    """

    world: Genie
    classifier: ActionClassifier
    true: Int[Tensor, "N S"]
    prompt_frames: int
    predicted: dict[str, list[Tensor]] = field(default_factory=dict)

    def update(self, frames: UInt8[Tensor, "B T H W C"], played: Rollouts) -> None:
        """Reads one batch of clips and what was played after their prompts.

        A rollout is read together with its prompt as the tokenizer gives it back, so that the
        first step shows what moved and not what the tokenizer lost.
        """
        steps = self.true.shape[1]
        prompt = frames[:, : self.prompt_frames]
        rebuilt = self.world.tokenizer.decode(self.world.tokenizer.encode(prompt)).cpu()
        shown = {"real": frames.cpu()}
        for side in ("reconstruction", "inferred", "random"):
            shown[side] = torch.cat([rebuilt, played[side]], dim=1)
        for side, clip in shown.items():
            actions = self.classifier.predict(clip[:, : self.prompt_frames + steps])
            self.predicted.setdefault(side, []).append(actions[:, -steps:])

    def compute(self) -> dict[str, Any]:
        """Returns macro F1 and accuracy of what was read, beside ceiling, chance and guessing.

        `inferred` are rollouts with the actions inferred from the real clip; `real` is the clip
        itself, the ceiling, and `reconstruction` the same after the tokenizer; `random` are
        rollouts with random actions, read against the same true actions, which is chance;
        `majority` always says the commonest. `confusion` counts true (rows) against read
        (columns).
        """
        read = {side: torch.cat(parts) for side, parts in self.predicted.items()}
        true = self.classifier.merge(self.true)
        known = true >= 0
        size = len(self.classifier.groups)
        counts = torch.bincount(true[known], minlength=size)
        read["majority"] = torch.full_like(true, int(counts.argmax()))
        result: dict[str, Any] = {
            "clips": len(self.true),
            "transitions": int(known.sum()),
            "actions": self.classifier.group_names,
        }
        for side, actions in read.items():
            table = formulas.contingency(true[known], actions[known], size, size)
            result[side] = {
                "macro_f1": formulas.macro_f1(table),
                "accuracy": (table.diagonal().sum() / table.sum()).item(),
                "confusion": table.tolist(),
            }
        return result


# --- closed loop ----------------------------------------------------------------------------


def follows_action(read: Int[Tensor, "N T"], size: int) -> Bool[Tensor, "N size"]:
    """Returns whether each action was read more often than every other one in a game."""
    counts = F.one_hot(read, size).sum(1)
    most = counts == counts.amax(1, keepdim=True)
    return most & (most.sum(1, keepdim=True) == 1)


def closed_loop(
    held: HeldActionGames,
    classifier: ActionClassifier,
    *,
    split: str,
    games: int,
    choosing_games: int,
    on_step: OnStep = ignore_step,
) -> dict[str, Any]:
    """Holds the button that stands for each true action and counts the games that go its way.

    A game goes an action's way when the classifier sees that action more often than any other. On
    training levels every button is held, and each true action gets the one after which most games
    go its way (ties: the one after which the action is read most often). Those are then held from
    held-out frames. Chance is the same count over games in which a button drawn at random is held.
    The real game is the held-out video itself where its player held the true action as long; where
    that is rare, shorter stretches are taken (`real_steps`, see `find_held_stretches`). Ours are
    then read as long for `relative`: our share over the real one.

    Args:
        held: plays; its look `ACTIONS` is what the classifier reads.
        classifier: reads the actions.
        split: held out.
        games: held-out frames from which each button is held.
        choosing_games: training frames from which every button is held to choose among them.
        on_step: called after every batch and step, `HeldActionGames.max_steps` times at the most.
    """
    size, num_actions = len(classifier.groups), held.world.config.num_actions
    known, prompts = held.prompts("train", choosing_games), held.prompts(split, games)
    tried = [held.hold(ACTIONS, known, button, on_step) for button in range(num_actions)]
    chosen = select_actions(torch.stack(tried), size)
    read = {button: held.hold(ACTIONS, prompts, button, on_step) for button in set(chosen)}
    random = held.hold(ACTIONS, prompts, held.random_actions(prompts, 3), on_step)
    real_steps, real = real_held_actions(held.store, classifier, split, held.steps, held.batch)
    outcomes, actions = list[Tensor](), dict[str, Any]()
    for action, name in enumerate(classifier.group_names):
        ours = read[chosen[action]]
        outcomes.append(follows_action(ours, size)[:, action].float())
        actions[name] = _success_rates(action, ours, random, real[action], real_steps, size)
        actions[name] |= {"action": chosen[action]}
    interval = formulas.interval_over_episodes(torch.stack(outcomes).mean(0), prompts.episodes)
    return {
        "games": len(random),
        "steps": held.steps,
        "real_steps": real_steps,
        "choosing_games": len(tried[0]),
        "actions": actions,
        "share_interval": interval,
        "mean": {
            key: _mean([line[key] for line in actions.values()])
            for key in ("share", "chance", "real", "relative", "relative_chance")
        },
    }


def select_actions(read: Int[Tensor, "A N T"], size: int) -> list[int]:
    """Returns the button after which most games go each action's way.

    Args:
        read: the actions read while each button was held.
        size: how many actions there are.
    """
    games = torch.stack([follows_action(part, size).float().mean(0) for part in read])
    often = F.one_hot(read, size).float().mean((1, 2))
    return (games + 1e-3 * often).argmax(0).tolist()


def real_held_actions(
    store: ClipStore, classifier: ActionClassifier, split: str, steps: int, batch: int
) -> tuple[int, list[Int[Tensor, "N S"]]]:
    """Reads the stretches of real video in which one (merged) true action was held.

    Returns:
        How long they are, and for each action what was read in each of them.
    """
    starts, length = find_held_stretches(store, classifier, split, steps)
    read = list[Tensor]()
    for firsts in starts:
        clips = ClipBatches(store, firsts, length + 1, batch, torch.device("cpu"))
        read.append(torch.cat([torch.empty(0, length).long(), *map(classifier.predict, clips)]))
    return length, read


def find_held_stretches(
    store: ClipStore, classifier: ActionClassifier, split: str, longest: int
) -> tuple[list[Int[np.ndarray, " n"]], int]:
    """Finds stretches that do not overlap in which one (merged) true action was held.

    Returns:
        First frames of the stretches of each action, and their length: up to `longest`, as long as
        `REAL_GAMES` are left of every action that has so many of `MIN_HOLD` steps.
    """
    runs = list(_action_runs(store, classifier, split))

    def cut(length: int) -> list[np.ndarray]:
        return [
            np.array(
                [
                    first + length * i
                    for held, first, count in runs
                    for i in range(count // length if held == action else 0)
                ],
                dtype=np.int64,
            )
            for action in range(len(classifier.groups))
        ]

    length = min(longest, MIN_HOLD)
    starts = cut(length)
    frequent = [action for action, some in enumerate(starts) if len(some) >= REAL_GAMES]
    while frequent and length < longest:
        longer = cut(length + 1)
        if min(len(longer[action]) for action in frequent) < REAL_GAMES:
            break
        starts, length = longer, length + 1
    return starts, length


def _action_runs(
    store: ClipStore, classifier: ActionClassifier, split: str
) -> Iterator[tuple[int, int, int]]:
    """Action, first frame and length of each run of one action."""
    labels = store.labels()
    assert labels is not None
    true = classifier.merge(torch.from_numpy(np.array(labels))).numpy()
    for episode in store.episodes:
        if episode.split == split:
            inside = true[episode.start : episode.start + episode.length - 1]
            for a, b in pairwise(np.flatnonzero(np.diff(inside, prepend=-2, append=-2)).tolist()):
                yield int(inside[a]), episode.start + a, b - a


def _success_rates(
    action: int, ours: Tensor, random: Tensor, real: Tensor, real_steps: int, size: int
) -> dict[str, Any]:
    def share(read: Tensor) -> float | None:
        return follows_action(read, size)[:, action].float().mean().item() if len(read) else None

    game = share(real) if len(real) >= REAL_GAMES else None
    relative, chance = (
        part / game if game and part is not None else None
        for part in (share(ours[:, :real_steps]), share(random[:, :real_steps]))
    )
    return {
        "share": share(ours),
        "chance": share(random),
        "real": game,
        "real_games": len(real),
        "relative": relative,
        "relative_chance": chance,
    }


def _mean(values: list[Any]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
