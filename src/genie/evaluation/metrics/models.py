"""The three models of a world, each alone and beside its baselines."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.context import Evaluation
from genie.evaluation.metrics.formulas import ERRORS, errors_by_side
from genie.evaluation.metrics.metric import Headline, Metric, Section
from genie.evaluation.protocol.rollouts import random_actions
from genie.models.quantizers.base import perplexity

if TYPE_CHECKING:
    from genie.world.genie import Genie

SIDES = ("reconstruction", "copy_last_frame")


# --- tokenizer ------------------------------------------------------------------------------


def measure_tokenizer(evaluation: Evaluation) -> dict[str, Any]:
    """Measures how well frames survive the tokenizer, and how much of the codebook they use.

    The baseline predicts every frame by the one before it. The first frame of a clip has none and
    is left out on both sides. `moving_share` is the share of pixels that moved. `intervals` are of
    95 % over episodes.
    """
    world, counts = evaluation.world, torch.zeros(evaluation.world.tokenizer.vocabulary).long()

    def batches() -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        for frames in evaluation.each_batch("Tokenizer"):
            tokens = world.tokenizer.encode(frames)
            counts.add_(formulas.code_counts(tokens, len(counts)))
            rebuilt = world.tokenizer.decode(tokens)[:, 1:]
            yield frames[:, 1:], dict(zip(SIDES, (rebuilt, frames[:, :-1]), strict=True))

    sides = errors_by_side(batches())
    errors = sides["reconstruction"]
    pixels = errors.error.numel() * world.config.height * world.config.width
    return {
        **{side: found.summary() for side, found in sides.items()},
        "intervals": errors.intervals(evaluation.clips.episodes),
        "moving_share": errors.moving_count.sum().item() / pixels,
        "codebook": {
            "size": len(counts),
            "used": int((counts > 0).sum()),
            "share_used": (counts > 0).float().mean().item(),
            "perplexity": perplexity(counts.double()).item(),
            "tokens": int(counts.sum()),
        },
    }


TOKENIZER = Metric(
    key="tokenizer",
    order=70,
    title="Tokenizer: frames to tokens and back",
    measure=measure_tokenizer,
    cells=tuple(
        (f"tokenizer, {name} (copying the last frame)", *(f"{side}.{key}" for side in SIDES))
        for key, name in (
            ("psnr_mean_error", "PSNR of the mean error, dB"),
            ("psnr_moving", "PSNR on moving pixels, dB"),
            ("ssim", "SSIM"),
        )
    ),
    values={"errors": ERRORS},
    headlines=(
        Headline(
            name="Sharpness of the tokenizer, PSNR of the mean error",
            unit="dB",
            value="reconstruction.psnr_mean_error",
            baseline=("copying the last frame", "copy_last_frame.psnr_mean_error"),
            limits=(30, 24),
            good="Frames come back from their tokens with their details.",
            fair="Frames come back recognisable but soft: small things may be lost.",
            poor="Much is lost between frames and tokens; nothing after it can be sharper. Train "
            "the tokenizer longer.",
        ),
    ),
)


# --- latent actions -------------------------------------------------------------------------


def measure_latent_actions(evaluation: Evaluation) -> dict[str, Any]:
    """Measures how many latent actions are in use and what they tell about the next frame.

    The latent action model predicts each next frame with the inferred code and with a random one;
    a code that carries nothing gives the same error for both. It may see smaller frames than the
    world draws (`pixels`), so these figures do not compare with those of the tokenizer.
    """
    world, seed = evaluation.world, evaluation.config.seed
    num_actions = world.config.num_actions
    inferred: list[Tensor] = []

    def batches() -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        seen = 0
        for frames in evaluation.each_batch("Latent actions"):
            ours = world.actions.infer(frames)
            random = random_actions(num_actions, len(ours), ours.shape[1], seed, seen)
            inferred.append(ours.cpu())
            seen += len(frames)
            shown = world.actions.downsampled(frames)
            sides = {
                "inferred": world.actions.reconstruct(frames, ours),
                "random": world.actions.reconstruct(frames, random.to(ours.device)),
                "copy_last_frame": shown[:, :-1],
            }
            yield shown[:, 1:], sides

    sides = errors_by_side(batches())
    counts = formulas.code_counts(torch.cat(inferred), num_actions)
    return {
        "count": num_actions,
        "perplexity": perplexity(counts.double()).item(),
        "usage": (counts / counts.sum()).tolist(),
        "transitions": int(counts.sum()),
        "pixels": list(world.actions.frame_size),
        "next_frame": {side: found.summary() for side, found in sides.items()},
    }


def _moving_gain(section: Section) -> float | None:
    ours, random = (section["next_frame"][name]["psnr_moving"] for name in ("inferred", "random"))
    return None if ours is None else ours - random


LATENT_ACTIONS = Metric(
    key="latent_actions",
    order=80,
    title="Latent actions",
    measure=measure_latent_actions,
    values={"errors": ERRORS},
    headlines=(
        Headline(
            name="Latent actions in use, perplexity",
            value="perplexity",
            baseline=("all used equally", "count"),
            limits=(
                lambda section: section["count"] / 2,
                lambda section: min(2.0, section["count"] / 2),
            ),
            good="Most actions are in use.",
            fair="A few actions explain nearly everything; the others rarely mean something.",
            poor="The latent actions have collapsed: nearly everything is one action.",
        ),
        Headline(
            name="Next frame from the latent action, PSNR on moving pixels",
            unit="dB",
            value="next_frame.inferred.psnr_moving",
            baseline=("random actions", "next_frame.random.psnr_moving"),
            score=_moving_gain,
            limits=(1.0, 0.25),
            good="The inferred action tells a lot about what moves next.",
            fair="The inferred action tells something about what moves next.",
            poor="The inferred action tells next to nothing about what moves.",
        ),
    ),
)


# --- dynamics -------------------------------------------------------------------------------


def measure_dynamics(evaluation: Evaluation) -> dict[str, Any]:
    """Measures how well masked tokens are predicted, with the inferred and with shuffled actions.

    Shuffled actions are the inferred ones in a random order among all transitions of a batch. Both
    sides so use every action equally often, and both sample the same masks. `gain` is the
    cross-entropy that the actions save, in nats per masked token, clips as samples. Mask ratios
    follow the cosine schedule whatever the world was trained with, so that worlds can be compared.
    Only those of one `context` can: with "masked" the earlier frames are masked as well.
    """
    world, seed = evaluation.world, evaluation.config.seed
    found: dict[str, list[list[float]]] = {"inferred": [], "shuffled": []}
    standing: list[Tensor] = []
    for index, frames in enumerate(evaluation.each_batch("Dynamics")):
        tokens, actions = world.tokenizer.encode(frames), world.actions.infer(frames)
        generator = torch.Generator().manual_seed(seed + index)
        order = torch.randperm(actions.numel(), generator=generator).to(actions.device)
        shuffled = actions.flatten()[order].reshape(actions.shape)
        for side, given in (("inferred", actions), ("shuffled", shuffled)):
            for clip in range(len(frames)):
                one = slice(clip, clip + 1)
                drawn = seed + len(found[side])
                found[side].append(_masked_loss(world, tokens[one], given[one], drawn))
        standing.append((tokens[:, 1:] == tokens[:, :-1]).float().mean(dim=(1, 2)))
    tables = {side: torch.tensor(values, dtype=torch.float64) for side, values in found.items()}
    result: dict[str, Any] = {
        side: dict(zip(("cross_entropy", "accuracy"), table.mean(dim=0).tolist(), strict=True))
        for side, table in tables.items()
    }
    return result | {
        "gain": formulas.mean_interval(tables["shuffled"][:, 0] - tables["inferred"][:, 0]),
        "uniform_cross_entropy": math.log(world.dynamics.vocabulary),
        "copy_last_frame_accuracy": torch.cat(standing).mean().item(),
    }


def _masked_loss(world: Genie, tokens: Tensor, actions: Tensor, seed: int) -> list[float]:
    devices = [tokens.device] if tokens.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        _, logs = world.dynamics.loss(tokens, actions, mask_ratio="cosine")
    return [logs["masked_cross_entropy"].item(), logs["masked_accuracy"].item()]


def _saved(section: Section) -> float:
    ours, shuffled = (section[name]["cross_entropy"] for name in ("inferred", "shuffled"))
    return (shuffled - ours) / max(shuffled, 1e-9)


DYNAMICS = Metric(
    key="dynamics",
    order=90,
    title="Dynamics: masked tokens",
    measure=measure_dynamics,
    headlines=(
        Headline(
            name="Masked tokens, cross-entropy",
            unit="nats",
            value="inferred.cross_entropy",
            baseline=("shuffled actions", "shuffled.cross_entropy"),
            score=_saved,
            limits=(0.02, 0.002),
            good="The dynamics need the right action to predict what comes.",
            fair="The dynamics use the action a little.",
            poor="The dynamics predict as well with wrong actions: they ignore the actions.",
        ),
    ),
)
