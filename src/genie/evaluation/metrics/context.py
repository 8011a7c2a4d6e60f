"""One world on one store: what the metrics of a report share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from genie.core.config import UserError
from genie.core.progress import Bars, ignore_tick, progress_bars, ticking
from genie.data.clips import ClipBatches, select_clips
from genie.evaluation.config import EvaluationConfig
from genie.evaluation.figures import Figure
from genie.evaluation.metrics.inverse_dynamics import train_action_classifier
from genie.evaluation.protocol.held_actions import HeldActionGames
from genie.evaluation.protocol.rollouts import RolloutPlayer
from genie.models.action_classifier import ActionClassifier
from genie.models.external_networks import Extractor, NetworkFile, Pixels

if TYPE_CHECKING:
    from genie.data.store import ClipStore
    from genie.world.genie import Genie
    from genie.world.maskgit import SamplingConfig

Result = TypeVar("Result")
RolloutMeasure = Callable[[Tensor, dict[str, Tensor]], dict[str, Tensor]]
"""Of held-out clips and the rollouts of each condition what is kept of each side, a row a clip."""


class Skipped(Exception):
    """A metric cannot be measured; the message says why, and stands in the report."""


@dataclass
class Evaluation:
    """What is measured, on what, and what metrics have computed together.

    Attributes:
        world: the world.
        store: the clip store.
        config: the protocol.
        sampling: how frames are sampled; the world's own way when None.
        bars: shows progress.
        network: makes features of clips for Fréchet distances, if there is a file of it.
        distance: compares two frames, as LPIPS does, if there is a file of it.
        metrics: all metrics by key; they look at rollouts and held actions together.
        figures: images for the report; metrics add theirs.
        kept: of the rollouts of each batch of clips, by the key of a metric and by side.
    """

    world: Genie
    store: ClipStore
    config: EvaluationConfig = field(default_factory=EvaluationConfig)
    sampling: SamplingConfig | None = None
    bars: Bars = field(default_factory=lambda: progress_bars(False))
    network: NetworkFile | None = None
    distance: NetworkFile | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    kept: dict[str, dict[str, list[Tensor]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    _shared: dict[str, Any] = field(default_factory=dict)

    def select(
        self, length: int, count: int, *, seed: int | None = None, split: str | None = None
    ) -> ClipBatches:
        """Returns clips that do not overlap, fewer where the store has no more.

        Args:
            length: frames of each.
            count: how many.
            seed: of the choice; that of the report when left out.
            split: of the store; the one that is evaluated when left out.
        """
        seed = self.config.seed if seed is None else seed
        starts = select_clips(self.store, split or self.config.split, length, count, seed)
        return self.batches(starts, length)

    def batches(self, starts: np.ndarray, length: int) -> ClipBatches:
        """Returns the clips of `length` frames that begin at `starts`."""
        return ClipBatches(self.store, starts, length, self.config.batch, self.world.device)

    def once(self, name: str, make: Callable[[], Result]) -> Result:
        """Returns what `make` returned when it was first called under this name."""
        if name not in self._shared:
            self._shared[name] = make()
        return self._shared[name]

    @cached_property
    def player(self) -> RolloutPlayer:
        """Plays the world."""
        return RolloutPlayer(self.world, self.config.batch, self.sampling)

    @contextmanager
    def playing(self, name: str, steps: int) -> Iterator[RolloutPlayer]:
        """Shows the progress of a number of steps of batches under a name while they are played."""
        with self.bars(name, steps) as on_step:
            self.player.on_step = on_step
            yield self.player
        self.player.on_step = ignore_tick

    @cached_property
    def clips(self) -> ClipBatches:
        """The clips of the report."""
        return self.select(self.config.clip_frames, self.config.clips)

    def each_batch(self, name: str) -> Iterator[Tensor]:
        """Yields the frames of each batch of clips, and shows progress under a name."""
        with self.bars(name, len(self.clips)) as on_step:
            yield from ticking(self.clips, on_step)

    @property
    def classifier(self) -> ActionClassifier:
        """Predicts true actions; raises `Skipped` where there is none."""
        if isinstance(self._classifier, str):
            raise Skipped(self._classifier)
        return self._classifier

    @property
    def known_classifier(self) -> ActionClassifier | None:
        """The same, or None."""
        return None if isinstance(self._classifier, str) else self._classifier

    @cached_property
    def _classifier(self) -> ActionClassifier | str:
        """The classifier, or why there is none."""
        steps = self.config.inverse_dynamics_steps
        if self.store.labels() is None:
            return "the videos of this store came without files of true actions."
        if steps == 0:
            return "no inverse-dynamics network was asked for (inverse_dynamics_steps: 0)."
        with self.bars("Inverse dynamics", 2 * steps) as on_step:
            try:
                classifier = train_action_classifier(
                    self.store,
                    self.world.actions,
                    steps=steps,
                    seed=self.config.seed,
                    device=self.world.device,
                    on_step=on_step,
                )
            except UserError as error:
                return f"{error}."
        if len(classifier.groups) < 2:
            return "the inverse-dynamics network can tell no two true actions apart."
        return classifier

    @cached_property
    def extractor(self) -> Extractor:
        """Makes the features for Fréchet distances."""
        if self.network:
            return self.network
        return self.known_classifier.network if self.known_classifier else Pixels()

    @cached_property
    def rollout_measures(self) -> dict[str, RolloutMeasure]:
        """What metrics keep of the rollouts of held-out clips, by their key."""
        return self._measures("rollout_measure")

    @cached_property
    def held_games(self) -> HeldActionGames:
        """The games in which an action is held, played once for all metrics."""
        steps, measures = self.config.closed_loop_steps, self._measures("held_measure")
        return HeldActionGames(self.player, measures, steps, self.config.seed)

    def _measures(self, name: str) -> dict[str, Any]:
        """What the fields of this name make, but for metrics that cannot measure."""
        found = dict[str, Any]()
        for key, metric in self.metrics.items():
            if (make := getattr(metric, name)) is not None:
                with suppress(Skipped):
                    found[key] = make(self)
        return found

    def true_actions(self, starts: np.ndarray, steps: int) -> Tensor:
        """Returns the true actions (N, steps) from each first frame on, -1 where unknown.

        Raises:
            Skipped: none of them is known.
        """
        labels = self.store.labels()
        if labels is None:
            raise Skipped(str(self._classifier))
        true = torch.from_numpy(labels[starts[:, None] + np.arange(steps)]).long()
        if not (true >= 0).any():
            raise Skipped(f"no true action is known in the {self.config.split!r} split.")
        return true
