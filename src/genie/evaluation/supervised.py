"""The parts of a report that need the true actions of the sidecar files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genie.core.config import UserError
from genie.core.progress import Bars, ticking
from genie.evaluation.metrics import sections
from genie.evaluation.metrics.action_alignment import SupervisedTransitions, action_alignment
from genie.evaluation.metrics.action_classifier import train_action_classifier
from genie.evaluation.metrics.controllability import ACTIONS, ActionFollowing, closed_loop
from genie.evaluation.metrics.scrolling import (
    DIRECTIONS,
    SHIFTS,
    real_directions,
    scroll,
    scrolling,
)
from genie.evaluation.protocol.clips import ClipBatches, select_clips
from genie.evaluation.protocol.held_actions import HeldActionGames, Measure

if TYPE_CHECKING:
    from genie.data.store import ClipStore
    from genie.evaluation.config import EvaluationConfig
    from genie.evaluation.metrics.action_classifier import ActionClassifier
    from genie.world.genie import Genie
    from genie.world.maskgit import SamplingConfig


def action_classifier_for(
    world: Genie, store: ClipStore, config: EvaluationConfig, bars: Bars
) -> ActionClassifier | str:
    """Returns the network that reads true actions off frames, or why there is none."""
    if store.labels() is None:
        return "the videos of this store came without files of true actions."
    if config.inverse_dynamics_steps == 0:
        return "no inverse-dynamics network was asked for (inverse_dynamics_steps: 0)."
    with bars("Inverse dynamics", 2 * config.inverse_dynamics_steps) as on_step:
        try:
            classifier = train_action_classifier(
                store,
                world.actions,
                steps=config.inverse_dynamics_steps,
                seed=config.seed,
                device=world.device,
                on_step=on_step,
            )
        except UserError as error:
            return f"{error}."
    if len(classifier.groups) < 2:
        return "the inverse-dynamics network can tell no two true actions apart."
    return classifier


@dataclass(frozen=True)
class SupervisedMetrics:
    """Sets what a world does beside true actions; each method is a section of the report.

    A section that cannot be made says why it was `skipped`.

    Attributes:
        world, store, config: what is looked at, on which frames, and how much.
        classifier: of true actions, or why there is none.
        sampling: how frames are drawn; the world's own way when None.
        bars: show progress.
    """

    world: Genie
    store: ClipStore
    config: EvaluationConfig
    classifier: ActionClassifier | str
    sampling: SamplingConfig | None
    bars: Bars

    def following(self, starts: np.ndarray) -> ActionFollowing | str:
        """What reads the true action back from rollouts of clips, or why that cannot be done.

        Args:
            starts: first frame of each clip.
        """
        config, labels = self.config, self.store.labels()
        if isinstance(self.classifier, str) or labels is None:
            return str(self.classifier)
        steps = min(config.closed_loop_steps, config.horizon)
        first = starts[:, None] + config.prompt_frames - 1
        true = torch.from_numpy(labels[first + np.arange(steps)]).long()
        if not (true >= 0).any():
            return self._unknown
        return ActionFollowing(self.world, self.classifier, true, config.prompt_frames)

    def supervised_metrics(self) -> dict[str, Any]:
        """Latent against true actions; see `sections.supervised`, `action_alignment`."""
        if self.store.labels() is None:
            return {"skipped": str(self.classifier)}
        config, num_actions = self.config, self.world.config.num_actions
        held_out = self._steps(config.split)
        if held_out is None:
            return {"skipped": self._unknown}
        known = self._steps("train") if config.split != "train" else None
        pressed = torch.cat([held_out.true, *([known.true] if known else ())])
        names = list(self.store.action_names or map(str, range(int(pressed.max()) + 1)))
        figures = sections.supervised(
            held_out.latent, held_out.true, num_actions, names, config.seed
        )
        if known is not None:
            figures["action_maps"] = sections.action_maps(
                (known.latent, known.true),
                (held_out.latent, held_out.true),
                num_actions,
                len(names),
                config.seed,
            )
        if isinstance(self.classifier, str):
            return figures
        figures["inverse_dynamics"] = self.classifier.facts
        return figures | action_alignment(
            known or held_out, held_out, self.classifier, num_actions, config.seed
        )

    def closed_loop(self) -> dict[str, Any]:
        """Holds the button of each true action; see `obedience.closed_loop`.

        The games are played here, and scroll is looked for in them, so what `scrolling` costs is
        mostly counted here as well.
        """
        if isinstance(self.classifier, str):
            return {"skipped": self.classifier}
        with self.bars("Closed loop", self._max_steps(len(self.classifier.groups))) as on_step:
            return closed_loop(self._held, self.classifier, on_step=on_step, **self._sizes)

    def scrolling(self) -> dict[str, Any]:
        """Holds the button of each way and sees the scene scroll; see `scrolling.scrolling`."""
        if not any(episode.split == "train" for episode in self.store.episodes):
            return {"skipped": "there is no 'train' split to choose buttons on."}
        with self.bars("Movement", self._max_steps(len(DIRECTIONS))) as on_step:
            return scrolling(self._held, self._real_directions, on_step=on_step, **self._sizes)

    @cached_property
    def _real_directions(self) -> dict[str, tuple[int, float]]:
        config = self.config
        return real_directions(self.store, config.split, config.closed_loop_steps, config.batch)

    @cached_property
    def _held(self) -> HeldActionGames:
        """The games that both of them look at; one that is to be skipped looks at nothing."""
        measures: dict[str, Measure] = {SHIFTS: scroll} if self._real_directions else {}
        if not isinstance(self.classifier, str):
            measures[ACTIONS] = self.classifier.predict
        return HeldActionGames(
            self.world,
            self.store,
            measures,
            prompt_frames=self.config.prompt_frames,
            steps=self.config.closed_loop_steps,
            seed=self.config.seed,
            batch=self.config.batch,
            sampling=self.sampling,
        )

    @property
    def _sizes(self) -> dict[str, Any]:
        config = self.config
        return {
            "split": config.split,
            "games": config.closed_loop_games,
            "choosing_games": config.action_selection_games,
        }

    def _max_steps(self, chosen: int) -> int:
        config = self.config
        return self._held.max_steps(config.closed_loop_games, config.action_selection_games, chosen)

    @property
    def _unknown(self) -> str:
        return f"no true action is known in the {self.config.split!r} split."

    def _steps(self, split: str) -> SupervisedTransitions | None:
        """The steps of a split whose true action is known, if any."""
        config, labels, length = self.config, self.store.labels(), self.config.clip_frames
        long_enough = (e.length >= length for e in self.store.episodes if e.split == split)
        if labels is None or not any(long_enough):
            return None
        count = max(config.clips, config.supervised_clips)
        starts = select_clips(self.store, split, length, count, config.seed)
        true = torch.from_numpy(np.array(labels[starts[:, None] + np.arange(length - 1)])).long()
        if not (true >= 0).any():
            return None
        clips = ClipBatches(self.store, starts, length, config.batch, self.world.device)
        classifier = None if isinstance(self.classifier, str) else self.classifier
        with self.bars(f"True actions, {split}", len(clips)) as on_step:
            return SupervisedTransitions.from_clips(
                self.world, classifier, ticking(clips, on_step), true
            )
