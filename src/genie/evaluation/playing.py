"""The parts of a report that play the world: rollouts, every button pressed or held, long games."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from genie.core.progress import Bars
from genie.data.images import png
from genie.evaluation.metrics import sections
from genie.evaluation.metrics.coherence import FrameStrip, measure_coherence
from genie.evaluation.metrics.external_networks import NetworkFile
from genie.evaluation.metrics.frechet import Extractor, Moments, real_data_distance
from genie.evaluation.metrics.separation import sample_all_actions, separation
from genie.evaluation.protocol.clips import ClipBatches, select_clips
from genie.evaluation.protocol.rollouts import hold_actions
from genie.evaluation.report import figures as pictures
from genie.evaluation.report.figures import Figure

if TYPE_CHECKING:
    from genie.data.store import ClipStore
    from genie.evaluation.config import EvaluationConfig
    from genie.world.genie import Genie
    from genie.world.maskgit import SamplingConfig


@dataclass(frozen=True)
class RolloutMetrics:
    """Plays a world as the settings of a report ask for; each method is a section of the report.

    Attributes:
        world, store, config: what is played, from which frames, and how much.
        extractor: of features for Fréchet distances.
        distance: of two frames, such as LPIPS, if there is a file of it.
        sampling: how frames are drawn; the world's own way when None.
        bars: show progress.
    """

    world: Genie
    store: ClipStore
    config: EvaluationConfig
    extractor: Extractor
    distance: NetworkFile | None
    sampling: SamplingConfig | None
    bars: Bars

    def rollouts(
        self,
        clips: int,
        horizon: int,
        times: tuple[int, ...],
        watch: sections.OnRollout | None = None,
    ) -> dict[str, Any]:
        """Plays real clips again under every seed; see `sections.rollouts`."""
        length, first = self.config.prompt_frames + horizon, self.config.seed
        seeds, distance = range(first, first + self.config.seeds), self.distance
        choices = [self._clips(length, clips, seed) for seed in seeds]
        with self.bars(f"{horizon} steps", 2 * horizon * sum(map(len, choices))) as on_step:
            found = sections.rollouts(
                self.world,
                choices,
                self.config.prompt_frames,
                times,
                first,
                self.sampling,
                on_step,
                watch,
                distance.distance if distance else None,
            )
        return found | {"horizon": horizon, "perceptual": distance.name if distance else None}

    def long_rollouts(self) -> dict[str, Any]:
        """The same for longer, from fewer clips."""
        config = self.config
        if not config.long_quoted:
            return {"skipped": "none were asked for."}
        length = config.prompt_frames + config.long_horizon
        if not any(e.split == config.split and e.length >= length for e in self.store.episodes):
            return {"skipped": f"the {config.split!r} split has no episode of {length} frames."}
        return self.rollouts(config.long_clips, config.long_horizon, config.long_quoted)

    def separation(self) -> dict[str, Any]:
        """Presses every button in the same states; see `separation.separation`."""
        config, settings = self.config, self.config.separation
        if settings.states == 0:
            return {"skipped": "no state was asked for."}
        prompts = torch.cat(list(self._clips(config.prompt_frames, settings.states, config.seed)))
        presses = len(prompts) * self.world.config.num_actions * settings.repeats
        with self.bars("Separation", -(-presses // config.batch)) as on_step:
            frames = sample_all_actions(
                self.world,
                prompts,
                settings.repeats,
                config.seed,
                config.batch,
                self.sampling,
                on_step,
            )
        return separation(frames, settings.permutations, config.seed)

    def held_actions(self, clips: ClipBatches) -> tuple[dict[str, Any], list[Figure]]:
        """Holds every button from the first frames of some clips; see `sections.held_actions`."""
        config = self.config
        starts = clips.starts[: config.action_prompts]
        prompts = torch.cat(list(replace(clips, starts=starts, length=config.prompt_frames)))
        players = len(prompts) * self.world.config.num_actions * 2
        with self.bars(
            "Held buttons", -(-players // config.batch) * config.action_steps
        ) as on_step:
            held = hold_actions(
                self.world,
                prompts,
                config.action_steps,
                config.seed,
                config.batch,
                self.sampling,
                on_step,
            )
        last = prompts[:, -1].cpu()
        figures = sections.held_actions(held, last)
        caption = (
            f"Every button held for {config.action_steps} frames from the same held-out picture, "
            "with the same random numbers. Last column: where the last frame differs from that of "
            "the button that changes least."
        )
        sheets = [
            pictures.action_sheet(last[i], held[i, :, 0], figures["stillest_action"])
            for i in range(min(config.figure_clips, len(last)))
        ]
        return figures, [
            Figure(f"buttons_{i}", caption, png(np.asarray(sheet)))
            for i, sheet in enumerate(sheets, 1)
        ]

    def coherence(self) -> tuple[dict[str, Any], list[FrameStrip]]:
        """Plays long games; see `coherence.measure_coherence`."""
        if not self.config.coherence.rollouts:
            return {"skipped": "none was asked for."}, []
        return measure_coherence(
            self.world,
            self.store,
            self.config.coherence,
            split=self.config.split,
            prompt_frames=self.config.prompt_frames,
            extractor=self.extractor,
            seed=self.config.seed,
            batch=self.config.batch,
            bars=self.bars,
            sampling=self.sampling,
        )

    def _clips(self, length: int, count: int, seed: int) -> ClipBatches:
        starts = select_clips(self.store, self.config.split, length, count, seed)
        return ClipBatches(self.store, starts, length, self.config.batch, self.world.device)


class FrechetByCondition:
    """Fréchet distances between real frames and what was played, batch by batch.

    Args:
        extractor: of features.
        prompt_frames: real frames that rollouts start from.
    """

    def __init__(self, extractor: Extractor, prompt_frames: int):
        self._extractor, self._first = extractor, prompt_frames
        self._features: dict[str, list[Tensor]] = {}

    def update(self, frames: Tensor, played: sections.Rollouts) -> None:
        """Takes the features of a batch of real clips and of what was played from them."""
        before, real = frames[:, self._first - 1 : self._first], frames[:, self._first :]
        for side, shown in ({"real": real} | played).items():
            clips = torch.cat([before, shown.to(before.device)], dim=1)
            self._features.setdefault(side, []).extend(self._extractor.features(clips).cpu())

    def compute(self, seed: int) -> dict[str, Any]:
        """Returns the distance of every side from the real frames, and between halves of these."""
        moments = {
            side: Moments.from_features(torch.cat(clips)) for side, clips in self._features.items()
        }
        real, clips = moments.pop("real"), self._features["real"]
        return {
            "extractor": self._extractor.name,
            "dimensions": clips[0].shape[1],
            "samples": real.count,
            "distance": {side: played.distance(real) for side, played in moments.items()},
            "real_halves": real_data_distance(clips, len(clips), seed)[0],
        }
