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
from genie.evaluation.metrics.action_alignment import Steps, agreement
from genie.evaluation.metrics.action_classifier import make_reader
from genie.evaluation.metrics.controllability import ACTIONS, ActionFollowing, closed_loop
from genie.evaluation.metrics.movement import SHIFTS, WAYS, movement, real_ways, scroll
from genie.evaluation.protocol.clips import Clips, choose_clips
from genie.evaluation.protocol.held_actions import HeldGames, Look

if TYPE_CHECKING:
    from genie.data.store import ClipStore
    from genie.evaluation.config import EvaluationConfig
    from genie.evaluation.metrics.action_classifier import Reader
    from genie.world.genie import Genie
    from genie.world.maskgit import SamplingConfig


def reader_of(world: Genie, store: ClipStore, config: EvaluationConfig, bars: Bars) -> Reader | str:
    """Returns the network that reads true actions off frames, or why there is none."""
    if store.labels() is None:
        return "the videos of this store came without files of true actions."
    if config.inverse_dynamics_steps == 0:
        return "no inverse-dynamics network was asked for (inverse_dynamics_steps: 0)."
    with bars("Inverse dynamics", 2 * config.inverse_dynamics_steps) as tick:
        try:
            reader = make_reader(
                store,
                world.actions,
                steps=config.inverse_dynamics_steps,
                seed=config.seed,
                device=world.device,
                tick=tick,
            )
        except UserError as error:
            return f"{error}."
    if len(reader.groups) < 2:
        return "the inverse-dynamics network can tell no two true actions apart."
    return reader


@dataclass(frozen=True)
class Labelled:
    """Sets what a world does beside true actions; each method is a section of the report.

    A section that cannot be made says why it was `skipped`.

    Attributes:
        world, store, config: what is looked at, on which frames, and how much.
        reader: of true actions, or why there is none.
        sampling: how frames are drawn; the world's own way when None.
        bars: show progress.
    """

    world: Genie
    store: ClipStore
    config: EvaluationConfig
    reader: Reader | str
    sampling: SamplingConfig | None
    bars: Bars

    def following(self, starts: np.ndarray) -> ActionFollowing | str:
        """What reads the true action back from rollouts of clips, or why that cannot be done.

        Args:
            starts: first frame of each clip.
        """
        config, labels = self.config, self.store.labels()
        if isinstance(self.reader, str) or labels is None:
            return str(self.reader)
        steps = min(config.closed_loop_steps, config.horizon)
        first = starts[:, None] + config.prompt_frames - 1
        true = torch.from_numpy(labels[first + np.arange(steps)]).long()
        if not (true >= 0).any():
            return self._unknown
        return ActionFollowing(self.world, self.reader, true, config.prompt_frames)

    def labels(self) -> dict[str, Any]:
        """Latent against true actions; see `sections.labels` and `agreement.agreement`."""
        if self.store.labels() is None:
            return {"skipped": str(self.reader)}
        config, num_actions = self.config, self.world.config.num_actions
        held_out = self._steps(config.split)
        if held_out is None:
            return {"skipped": self._unknown}
        known = self._steps("train") if config.split != "train" else None
        pressed = torch.cat([held_out.true, *([known.true] if known else ())])
        names = list(self.store.action_names or map(str, range(int(pressed.max()) + 1)))
        figures = sections.labels(held_out.latent, held_out.true, num_actions, names, config.seed)
        if known is not None:
            figures["maps"] = sections.label_maps(
                (known.latent, known.true),
                (held_out.latent, held_out.true),
                num_actions,
                len(names),
                config.seed,
            )
        if isinstance(self.reader, str):
            return figures
        figures["inverse_dynamics"] = self.reader.facts
        return figures | agreement(
            known or held_out, held_out, self.reader, num_actions, config.seed
        )

    def closed_loop(self) -> dict[str, Any]:
        """Holds the button of each true action; see `obedience.closed_loop`.

        The games are played here, and scroll is looked for in them, so what `movement` costs is
        mostly counted here as well.
        """
        if isinstance(self.reader, str):
            return {"skipped": self.reader}
        with self.bars("Closed loop", self._most_ticks(len(self.reader.groups))) as tick:
            return closed_loop(self._held, self.reader, tick=tick, **self._sizes)

    def movement(self) -> dict[str, Any]:
        """Holds the button of each way and sees the scene scroll; see `movement.movement`."""
        if not any(episode.split == "train" for episode in self.store.episodes):
            return {"skipped": "there is no 'train' split to choose buttons on."}
        with self.bars("Movement", self._most_ticks(len(WAYS))) as tick:
            return movement(self._held, self._real_ways, tick=tick, **self._sizes)

    @cached_property
    def _real_ways(self) -> dict[str, tuple[int, float]]:
        config = self.config
        return real_ways(self.store, config.split, config.closed_loop_steps, config.batch)

    @cached_property
    def _held(self) -> HeldGames:
        """The games that both of them look at; one that is to be skipped looks at nothing."""
        looks: dict[str, Look] = {SHIFTS: scroll} if self._real_ways else {}
        if not isinstance(self.reader, str):
            looks[ACTIONS] = self.reader.read
        return HeldGames(
            self.world,
            self.store,
            looks,
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

    def _most_ticks(self, chosen: int) -> int:
        config = self.config
        return self._held.most_ticks(
            config.closed_loop_games, config.action_selection_games, chosen
        )

    @property
    def _unknown(self) -> str:
        return f"no true action is known in the {self.config.split!r} split."

    def _steps(self, split: str) -> Steps | None:
        """The steps of a split whose true action is known, if any."""
        config, labels, length = self.config, self.store.labels(), self.config.clip_frames
        long_enough = (e.length >= length for e in self.store.episodes if e.split == split)
        if labels is None or not any(long_enough):
            return None
        count = max(config.clips, config.supervised_clips)
        starts = choose_clips(self.store, split, length, count, config.seed)
        true = torch.from_numpy(np.array(labels[starts[:, None] + np.arange(length - 1)])).long()
        if not (true >= 0).any():
            return None
        clips = Clips(self.store, starts, length, config.batch, self.world.device)
        reader = None if isinstance(self.reader, str) else self.reader
        with self.bars(f"True actions, {split}", len(clips)) as tick:
            return Steps.of(self.world, reader, ticking(clips, tick), true)
