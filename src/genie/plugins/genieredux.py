"""The set-up of GenieRedux, so that its figures and ours stand in one table.

Kazemi et al. (2024, arXiv 2409.06445) measure on random play of hard levels of CoinRun, in frames
of 64x64 pixels; `docs/commands.md` says how to record it. This is a protocol of its own,
`genie evaluate --protocol genieredux`, and no part of other reports.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.context import Evaluation
from genie.evaluation.metrics.formulas import FrameErrors, errors_by_side
from genie.evaluation.metrics.metric import Headline, Metric, Section
from genie.evaluation.protocol.rollouts import RolloutPlayer, clip_seeds, random_actions

DELTA_AT = 4
HORIZONS = (10, 15)
"""Frames predicted after the first: ten as in the paper, and all of clips of 16 frames."""
SIDES = {
    "tokenizer": "tokenizer",
    "one_step": "one step, true frames before it",
    "autoregressive": "autoregressive, inferred actions",
    "random": "autoregressive, random actions",
    "copy_previous_frame": "copying the frame before it",
    "copy_last_frame": "copying the first frame",
}
FIGURES = ("psnr_mean_error", "psnr", "ssim")
PUBLISHED = (
    ("Tokenizer-Base", 38.25, 0.96),
    ("Tokenizer-TA", 39.53, 0.97),
    ("GenieRedux-Base, latent actions", 25.51, 0.77),
    ("GenieRedux-TA, latent actions", 25.47, 0.82),
    ("GenieRedux-G-Base, true actions", 33.41, 0.92),
    ("GenieRedux-G-TA, true actions", 32.09, 0.94),
)
"""PSNR and SSIM of its tables 1 and 2, test set of a random agent, 10 frames after the first."""


def genieredux(evaluation: Evaluation) -> dict[str, Any]:
    """Compares predictions of the frames 2 to 16 with the real ones, in PSNR and SSIM.

    `autoregressive` plays on from the first frame with the actions inferred from the clip, as
    `generate` does. `one_step` predicts each frame from the true frames before it. `random` plays
    random actions, with the same noise; ΔPSNR at t = 4 is the difference.
    """
    clips = evaluation.clips
    steps = clips.length - 1
    with evaluation.playing("GenieRedux", 3 * steps * len(clips)):
        errors = errors_by_side(_predictions(evaluation))
    delta = errors["autoregressive"].psnr() - errors["random"].psnr()
    return {
        "clips": len(clips.starts),
        "episodes": len(clips.episodes.unique()),
        "frames": clips.length,
        "sides": {
            side: {
                str(horizon): _summary(errors[side], horizon, clips.episodes)
                for horizon in HORIZONS
            }
            for side in SIDES
        },
        "delta_psnr": formulas.interval_over_episodes(delta[:, DELTA_AT - 1], clips.episodes),
        "published": [dict(zip(("name", "psnr", "ssim"), row, strict=True)) for row in PUBLISHED],
    }


def _predictions(evaluation: Evaluation) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """The real frames after the first of each batch of clips, and what is predicted for them."""
    world, player, first = evaluation.world, evaluation.player, 0
    for frames in evaluation.clips:
        count, steps, seed = len(frames), frames.shape[1] - 1, evaluation.config.seed
        seeds = clip_seeds(seed, first, count)
        actions = world.actions.infer(frames)
        drawn = random_actions(world.config.num_actions, count, steps, seed, first)
        real = frames.cpu()
        yield (
            real[:, 1:],
            {
                "tokenizer": player.rebuilt(frames)[:, 1:],
                "one_step": predict_each(player, frames, actions, seeds),
                "autoregressive": player.rollout(frames[:, :1], actions, seeds),
                "random": player.rollout(frames[:, :1], drawn, seeds),
                "copy_previous_frame": real[:, :-1],
                "copy_last_frame": real[:, :1].expand(-1, steps, -1, -1, -1),
            },
        )
        first += count


def predict_each(
    player: RolloutPlayer,
    frames: UInt8[Tensor, "B T H W C"],
    actions: Int[Tensor, "B T-1"],
    seeds: list[int],
) -> UInt8[Tensor, "B T-1 H W C"]:
    """Predicts each frame but the first from all true frames before it and one action."""
    steps = range(1, frames.shape[1])
    predicted = [player.rollout(frames[:, :t], actions[:, t - 1 : t], seeds) for t in steps]
    return torch.cat(predicted, dim=1)


def _summary(errors: FrameErrors, horizon: int, episodes: Int[Tensor, " B"]) -> Section:
    errors = errors.at(slice(horizon))
    means, intervals = errors.summary(), errors.intervals(episodes)
    return {
        name: {"mean": means[name], "low": intervals[name][0], "high": intervals[name][1]}
        for name in FIGURES
    }


def _value(side: str, figure: str = "psnr_mean_error") -> str:
    return f"sides.{side}.{HORIZONS[0]}.{figure}.mean"


GENIEREDUX = Metric(
    key="genieredux",
    order=5,
    title="The set-up of GenieRedux",
    protocol="genieredux",
    measure=genieredux,
    values={"sides": SIDES, "horizons": HORIZONS},
    cells=(
        (
            "tokenizer, frames 2 to 11, PSNR, dB (GenieRedux-Base)",
            _value("tokenizer"),
            "published.0.psnr",
        ),
        (
            "tokenizer, frames 2 to 11, SSIM (GenieRedux-Base)",
            _value("tokenizer", "ssim"),
            "published.0.ssim",
        ),
        (
            "ten frames from one, inferred actions, PSNR, dB (GenieRedux-Base, GenieRedux-TA)",
            _value("autoregressive"),
            "published.2.psnr",
            "published.3.psnr",
        ),
        (
            "ten frames from one, inferred actions, SSIM (GenieRedux-Base, GenieRedux-TA)",
            _value("autoregressive", "ssim"),
            "published.2.ssim",
            "published.3.ssim",
        ),
    ),
    headlines=(
        Headline(
            name="Tokenizer, PSNR of frames 2 to 11",
            unit="dB",
            value=_value("tokenizer"),
            baseline=("GenieRedux-Base, published", "published.0.psnr"),
            limits=("published.0.psnr", _value("copy_previous_frame")),
            good="As near to the frames as the published tokenizer.",
            fair="Less near than the published tokenizer, nearer than the frame before.",
            poor="The frame before is nearer.",
        ),
        Headline(
            name="Ten frames from one with inferred actions, PSNR",
            unit="dB",
            value=_value("autoregressive"),
            baseline=("GenieRedux-Base, published", "published.2.psnr"),
            limits=("published.2.psnr", _value("copy_last_frame")),
            good="As near to what happened as the published world with latent actions.",
            fair="Less near than the published world, nearer than the first frame.",
            poor="The first frame is nearer to what happened.",
        ),
    ),
)
