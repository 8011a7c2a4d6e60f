"""Closed loop: an action is held, and the games that follow it are counted.

The action classifier, trained on real video alone, reads which true action each generated step
looks like. It measures all games alike, scrolling or not. The real game is measured by the same
classifier, which gives the most that a world can reach.

What holds and counts does not know the classifier, so that other measures of a game use it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genie.data.clips import ClipBatches
from genie.data.labelled import action_runs, stretches
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.evaluation.metrics.formulas import interval_over_episodes
from genie.evaluation.metrics.metric import Headline, Metric, Section
from genie.evaluation.protocol.held_actions import Measure

if TYPE_CHECKING:
    from genie.data.store import ClipStore
    from genie.models.action_classifier import ActionClassifier

MIN_HOLD = 4
REAL_GAMES = 20
"""Real stretches of an action that are needed to compare with; with fewer, shorter are taken."""
MEANS = ("share", "chance", "real", "relative", "relative_chance")


# --- holding actions ------------------------------------------------------------------------


@dataclass(frozen=True)
class RealGame:
    """The real game while a player held an action.

    Attributes:
        games: how many stretches of video there are.
        fraction: part of them that reached the goal; None where there are too few.
    """

    games: int
    fraction: float | None


def hold_towards(
    evaluation: Evaluation,
    key: str,
    goals: Mapping[str, RealGame],
    reached: Callable[[Tensor], Bool[Tensor, "N goals"]],
    *,
    real_steps: int,
    stream: int,
    prefer: Callable[[Tensor], Float[Tensor, " goals"]] | None = None,
) -> dict[str, Any]:
    """Holds the action that stands for each goal and counts the games that reach it.

    On training levels every action is held, and each goal gets the action with which most games
    reach it. Those are then held from held-out frames. Chance is the same count over games in which
    a random action is held. `relative` is the share of our games over that of the real ones, both
    over `real_steps` steps.

    Args:
        evaluation: the evaluation.
        key: of the metric whose `held_measure` says what is kept of the games.
        goals: the real game for each goal.
        reached: which games reached which goals, from what was kept of their steps (N, steps, ...).
        real_steps: length of the stretches of the real game.
        stream: of the random actions; another number samples others.
        prefer: a small score of an action for each goal that decides between equal ones.

    Returns:
        The `actions` by goal, the `mean` of their figures, the interval of the share, and sizes.
    """
    config, held = evaluation.config, evaluation.held_games
    if not any(episode.split == "train" for episode in evaluation.store.episodes):
        raise Skipped("there is no 'train' split to select actions on.")
    frames, size = config.prompt_frames, evaluation.world.config.num_actions
    known = evaluation.select(frames, config.action_selection_games, split="train")
    prompts = evaluation.select(frames, config.closed_loop_games)
    batches = size * len(known) + (min(len(goals), size) + 1) * len(prompts)  # at most
    with evaluation.playing(f"Closed loop, {key}", held.steps * batches):
        tried = [held.hold(key, known, action) for action in range(size)]
        chosen = select_actions(tried, reached, prefer)
        played = {action: held.hold(key, prompts, action) for action in set(chosen)}
        random = held.hold(key, prompts, held.random_actions(prompts, stream))
    lines, outcomes = dict[str, Any](), list[Tensor]()
    for goal, (name, real) in enumerate(goals.items()):
        ours = played[chosen[goal]]
        games = (ours, random, ours[:, :real_steps], random[:, :real_steps])
        reaching = [reached(game)[:, goal].float() for game in games]
        share, chance, *short = [part.mean().item() for part in reaching]
        relative = [part / real.fraction if real.fraction else None for part in short]
        values = (share, chance, real.fraction, *relative)
        lines[name] = dict(zip(MEANS, values, strict=True))
        lines[name] |= {"real_games": real.games, "action": chosen[goal]}
        outcomes.append(reaching[0])
    return {
        "games": len(random),
        "steps": held.steps,
        "choosing_games": len(known.starts),
        "actions": lines,
        "share_interval": interval_over_episodes(torch.stack(outcomes).mean(0), prompts.episodes),
        "mean": {key: _mean([line[key] for line in lines.values()]) for key in MEANS},
    }


def select_actions(
    tried: Iterable[Tensor],
    reached: Callable[[Tensor], Bool[Tensor, "N goals"]],
    prefer: Callable[[Tensor], Float[Tensor, " goals"]] | None = None,
) -> list[int]:
    """Returns the action with which most games reach each goal, from what was kept of each."""
    scores = [
        reached(kept).float().mean(0) + (0 if prefer is None else prefer(kept)) for kept in tried
    ]
    return torch.stack(scores).argmax(0).tolist()


def _mean(values: list[Any]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


# --- the real game --------------------------------------------------------------------------


def measure_stretches(
    evaluation: Evaluation, starts: Int[np.ndarray, " n"], length: int, measure: Measure
) -> Tensor:
    """Returns what is kept of each step of stretches of real video, (n, length, ...)."""
    clips = ClipBatches(evaluation.store, starts, length + 1, evaluation.config.batch)
    return torch.cat([measure(frames) for frames in clips])


# --- read by the action classifier ----------------------------------------------------------


def closed_loop(evaluation: Evaluation) -> dict[str, Any]:
    """Holds the action that stands for each true action; see `hold_towards`.

    A game follows an action when the classifier reads that action more often than any other. Equal
    actions are decided by how often it is read. The real game is the held-out video in which the
    player held the true action as long. Where that is rare, shorter stretches are taken
    (`real_steps`, see `find_held_stretches`).
    """
    classifier, config = evaluation.classifier, evaluation.config
    size = len(classifier.groups)
    starts, length = find_held_stretches(
        evaluation.store, classifier, config.split, config.closed_loop_steps
    )
    goals = {}
    for action, (name, firsts) in enumerate(zip(classifier.group_names, starts, strict=True)):
        fraction = None
        if len(firsts) >= REAL_GAMES:
            read = measure_stretches(evaluation, firsts, length, classifier.predict)
            fraction = follows_action(read, size)[:, action].float().mean().item()
        goals[name] = RealGame(len(firsts), fraction)
    found = hold_towards(
        evaluation,
        "closed_loop",
        goals,
        lambda read: follows_action(read, size),
        real_steps=length,
        stream=3,
        prefer=lambda read: 1e-3 * F.one_hot(read, size).float().mean((0, 1)),
    )
    return found | {"real_steps": length}


def follows_action(read: Int[Tensor, "N T"], size: int) -> Bool[Tensor, "N size"]:
    """Returns whether each action was read more often than every other one in a game."""
    counts = F.one_hot(read, size).sum(1)
    most = counts == counts.amax(1, keepdim=True)
    return most & (most.sum(1, keepdim=True) == 1)


def find_held_stretches(
    store: ClipStore, classifier: ActionClassifier, split: str, longest: int
) -> tuple[list[Int[np.ndarray, " n"]], int]:
    """Finds stretches in which one (merged) true action was held.

    Returns:
        First frames of the stretches of each action, and their length: up to `longest`, as long as
        `REAL_GAMES` are left of every action that has so many of `MIN_HOLD` steps.
    """
    labels = store.labels()
    assert labels is not None
    true = classifier.merge(torch.from_numpy(np.array(labels))).numpy()
    runs = action_runs(store, true, split)

    def cut(length: int) -> list[np.ndarray]:
        return [stretches(runs, action, length) for action in range(len(classifier.groups))]

    length = min(longest, MIN_HOLD)
    starts = cut(length)
    frequent = [action for action, some in enumerate(starts) if len(some) >= REAL_GAMES]
    while frequent and length < longest:
        longer = cut(length + 1)
        if min(len(longer[action]) for action in frequent) < REAL_GAMES:
            break
        starts, length = longer, length + 1
    return starts, length


def _notes(evaluation: Evaluation, section: Section) -> Iterable[str]:
    steps = evaluation.config.closed_loop_steps
    if section.get("real_steps", steps) < steps:
        yield (
            f"No player held every action for {steps} steps often enough: held actions are "
            f"compared with real video over {section['real_steps']} steps."
        )


CLOSED_LOOP = Metric(
    key="closed_loop",
    order=120,
    title="Games follow held actions",
    measure=closed_loop,
    held_measure=lambda evaluation: evaluation.classifier.predict,
    cells=(
        (
            "games that follow an action held {steps} steps (a random action)",
            "mean.share",
            "mean.chance",
        ),
        (
            "the same over {real_steps} steps, relative to real video (random action)",
            "mean.relative",
            "mean.relative_chance",
        ),
    ),
    notes=_notes,
    headlines=(
        Headline(
            name="Actions held {real_steps} steps: games that follow, relative to the real game",
            value="mean.relative",
            baseline=("a random action", "mean.relative_chance"),
            certain=lambda section: (
                section["mean"]["relative"] > (section["mean"]["relative_chance"] or 0)
            ),
            limits=(0.8, 0.5),
            good="A held action takes the game where the real one goes.",
            fair="A held action often takes the game where the real one goes.",
            poor="A held action seldom takes the game where the real one goes.",
            shown=lambda section: section["mean"]["relative"] is not None,
        ),
    ),
)
