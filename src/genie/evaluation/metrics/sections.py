"""What a report measures: one function for each part of a world, each beside its baselines.

Every function reads the clips batch by batch and keeps figures, not frames, so that their number
is bounded by patience and not by memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.formulas import FrameErrors
from genie.evaluation.protocol.clips import ClipBatches
from genie.evaluation.protocol.rollouts import (
    OnStep,
    clip_seeds,
    ignore_step,
    random_actions,
    rollout,
)
from genie.models.quantizers.base import perplexity

if TYPE_CHECKING:
    from genie.world.genie import Genie
    from genie.world.maskgit import SamplingConfig

Batches = Iterable[UInt8[Tensor, "B T H W C"]]
Rollouts = dict[str, UInt8[Tensor, "B N H W C"]]
OnRollout = Callable[[Tensor, Rollouts], None]
ImageDistance = Callable[[Tensor, Tensor], Tensor]

POLICIES = ("inferred", "random", "copy_last_frame", "random_codes", "reconstruction")


def tokenizer(
    world: Genie, clips: Batches, episodes: Int[Tensor, " n"] | None = None
) -> dict[str, Any]:
    """Measures how well frames survive the tokenizer, and how much of the codebook they use.

    The baseline predicts every frame by the one before it; the first frame of a clip, which has
    none, is left out on both sides. `moving_share` is the share of pixels that moved. Where the
    episode of each clip is given, `intervals` says how sure the figures are.
    """
    rebuilt, copied = [], []
    counts = torch.zeros(world.tokenizer.vocabulary, dtype=torch.int64)
    for frames in clips:
        tokens = world.tokenizer.encode(frames)
        counts += formulas.code_counts(tokens, world.tokenizer.vocabulary)
        real, before = frames[:, 1:], frames[:, :-1]
        moving = formulas.moving_pixels(real, before)
        rebuilt.append(FrameErrors.between(real, world.tokenizer.decode(tokens)[:, 1:], moving))
        copied.append(FrameErrors.between(real, before, moving))
    errors = FrameErrors.cat(rebuilt)
    pixels = errors.error.numel() * world.config.height * world.config.width
    return {
        "reconstruction": errors.summary(),
        "copy_last_frame": FrameErrors.cat(copied).summary(),
        "intervals": None if episodes is None else errors.intervals(episodes),
        "moving_share": errors.moving_count.sum().item() / pixels,
        "codebook": {
            "size": world.tokenizer.vocabulary,
            "used": int((counts > 0).sum()),
            "share_used": (counts > 0).float().mean().item(),
            "perplexity": perplexity(counts.double()).item(),
            "tokens": int(counts.sum()),
        },
    }


def latent_actions(world: Genie, clips: Batches, seed: int) -> dict[str, Any]:
    """Measures how many latent actions are in use and what they tell about the next frame.

    The latent action model predicts each next frame with the inferred code and with a random one;
    a code that carries nothing gives the same error for both. It may see smaller frames than the
    world draws (`pixels`), so these figures do not compare with those of the tokenizer.
    """
    num_actions = world.config.num_actions
    sides: dict[str, list[FrameErrors]] = {"inferred": [], "random": [], "copy_last_frame": []}
    counts, seen = torch.zeros(num_actions, dtype=torch.int64), 0
    for frames in clips:
        inferred = world.actions.infer(frames)
        counts += formulas.code_counts(inferred, num_actions)
        drawn = random_actions(num_actions, len(inferred), inferred.shape[1], seed, seen)
        drawn = drawn.to(inferred.device)
        seen += len(frames)
        shown = world.actions.downsampled(frames)
        real, before = shown[:, 1:], shown[:, :-1]
        moving = formulas.moving_pixels(real, before)
        predictions = {
            "inferred": world.actions.reconstruct(frames, inferred),
            "random": world.actions.reconstruct(frames, drawn),
            "copy_last_frame": before,
        }
        for side, predicted in predictions.items():
            sides[side].append(FrameErrors.between(real, predicted, moving))
    return {
        "count": num_actions,
        "perplexity": perplexity(counts.double()).item(),
        "usage": (counts / counts.sum()).tolist(),
        "transitions": int(counts.sum()),
        "pixels": list(world.actions.frame_size),
        "next_frame": {side: FrameErrors.cat(parts).summary() for side, parts in sides.items()},
    }


def dynamics(world: Genie, clips: Batches, seed: int) -> dict[str, Any]:
    """Measures how well masked tokens are predicted, with the inferred and with shuffled actions.

    Shuffled actions are the inferred ones dealt out anew among all transitions of a batch, so both
    sides use every action equally often; both draw the same masks. `gain` is the cross-entropy that
    the actions save, in nats per masked token, clips as samples. The share of masked tokens follows
    the cosine schedule whatever the world was trained with, so that worlds compare; but only those
    of one `context`, because with "masked" the past is masked as well.
    """
    found: dict[str, list[list[float]]] = {"inferred": [], "shuffled": []}
    standing: list[Tensor] = []
    for index, frames in enumerate(clips):
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


def rollouts(
    world: Genie,
    clips: ClipBatches | Sequence[ClipBatches],
    prompt_frames: int,
    times: tuple[int, ...],
    seed: int,
    sampling: SamplingConfig | None = None,
    on_step: OnStep = ignore_step,
    watch: OnRollout | None = None,
    compare: ImageDistance | None = None,
) -> dict[str, Any]:
    """Plays real clips again from their first frames and compares with what really happened.

    Five sides: actions inferred from the real clip; actions drawn uniformly, with the same noise;
    copying the last frame of the prompt; frames of random codes, which know nothing of the game;
    and the tokenizer's reconstruction of the real frames, which no rollout can beat. ΔPSNR at t is
    the PSNR of the first less that of the second (Bruce et al. 2024, arXiv 2402.15391, section 3,
    quoted at t = 4), so it is zero for a world that ignores its actions.

    Intervals are of 95 %, m ± t(0.975, E - 1) s / √E, with m and s the mean and the standard
    deviation of the means of E episodes, each over all its clips of all seeds: clips of one episode
    resemble each other, and whatever a seed decides it decides for each clip alone. Figures that
    are no means of clips have the `intervals` of a bootstrap over episodes.

    Moving pixels are those of frame t that differ from the last frame of the prompt.

    Args:
        world: the world.
        clips: batches of `prompt_frames + horizon` frames; several choices of clips are played
            with a seed each and counted together.
        prompt_frames: how many of them the world is shown.
        times: steps after the prompt at which figures are quoted.
        seed: decides random actions and the noise, clip by clip, for the first choice of clips;
            the next has the next number.
        sampling: how frames are drawn; the world's own way when left out.
        on_step: called after every played frame.
        watch: called with every batch of the first choice of clips and what was played, to take
            pictures.
        compare: called with real and predicted frames (n, H, W, C) at the quoted times for a
            distance of each, such as LPIPS.
    """
    choices = [clips] if isinstance(clips, ClipBatches) else list(clips)
    sides: dict[str, list[FrameErrors]] = {policy: [] for policy in POLICIES}
    apart: dict[str, list[Tensor]] = {policy: [] for policy in POLICIES}
    wanted, counts = [t - 1 for t in times], []
    for index, choice in enumerate(choices):
        seen = 0
        for frames in choice:
            played = rollout_conditions(
                world, frames, prompt_frames, seed + index, seen, sampling, on_step
            )
            real = frames[:, prompt_frames:].cpu()
            moving = formulas.moving_pixels(real, played["copy_last_frame"])
            for policy, predicted in played.items():
                sides[policy].append(FrameErrors.between(real, predicted, moving, wanted))
                if compare is not None:
                    pair = (part[:, wanted].flatten(0, 1) for part in (real, predicted))
                    apart[policy].append(compare(*pair).cpu().reshape(len(real), len(wanted)))
            seen += len(frames)
            if watch is not None and index == 0:
                watch(frames, played)
        counts.append(seen)
    errors = {policy: FrameErrors.cat(parts) for policy, parts in sides.items()}
    episodes = torch.cat([choice.episodes for choice in choices])
    delta = _delta(errors)
    by_seed = torch.stack([part.nanmean(0) for part in delta.split(counts)])
    spread = [formulas.interval_over_episodes(values, episodes) for values in delta.unbind(1)]
    at = {str(t): _at_time(errors, t - 1, episodes) for t in times}
    for column, t in enumerate(times):
        at[str(t)]["delta_psnr"]["by_seed"] = by_seed[:, t - 1].tolist()
        for policy, parts in apart.items():
            if parts:
                mean = torch.cat(parts)[:, column].mean().item()
                at[str(t)][policy]["perceptual"] = mean
    return {
        "clips": sum(counts),
        "seeds": [seed + index for index in range(len(choices))],
        "episodes": len(episodes.unique()),
        "prompt_frames": prompt_frames,
        "at": at,
        "curves": {policy: side.psnr().mean(0).tolist() for policy, side in errors.items()},
        "delta_psnr_curve": delta.nanmean(0).tolist(),
        "delta_psnr_low": [line["low"] for line in spread],
        "delta_psnr_high": [line["high"] for line in spread],
    }


def rollout_conditions(
    world: Genie,
    frames: UInt8[Tensor, "B T H W C"],
    prompt_frames: int,
    seed: int,
    first: int = 0,
    sampling: SamplingConfig | None = None,
    on_step: OnStep = ignore_step,
) -> Rollouts:
    """Predicts the N frames after the prompt on each of the sides of `rollouts`.

    `first` is the number of the first clip, which with `seed` decides noise and random actions.
    """
    prompt, horizon = frames[:, :prompt_frames], frames.shape[1] - prompt_frames
    seeds = clip_seeds(seed, first, len(frames))
    inferred = world.actions.infer(frames)[:, prompt_frames - 1 :]
    drawn = random_actions(world.config.num_actions, len(frames), horizon, seed, first)
    drawn = drawn.to(inferred.device)
    tokens = world.tokenizer.encode(frames)
    codes = random_codes(tokens[:, prompt_frames:], world.tokenizer.vocabulary, seeds)
    rebuilt = world.tokenizer.decode(tokens)
    return {
        "inferred": rollout(world, prompt, inferred, seeds, sampling, on_step),
        "random": rollout(world, prompt, drawn, seeds, sampling, on_step),
        "copy_last_frame": prompt[:, -1:].cpu().expand(-1, horizon, -1, -1, -1),
        "random_codes": world.tokenizer.decode(codes).cpu(),
        "reconstruction": rebuilt[:, prompt_frames:].cpu(),
    }


def random_codes(
    tokens: Int[Tensor, "B N S"], vocabulary: int, seeds: list[int]
) -> Int[Tensor, "B N S"]:
    """Draws as many tokens uniformly from the vocabulary, each clip from its own seed."""
    shape = tuple(tokens.shape[1:])
    drawn = [np.random.default_rng([seed, 2]).integers(vocabulary, size=shape) for seed in seeds]
    return torch.from_numpy(np.stack(drawn)).to(tokens.device)


def _delta(errors: dict[str, FrameErrors]) -> Tensor:
    return errors["inferred"].psnr() - errors["random"].psnr()


def _at_time(errors: dict[str, FrameErrors], frame: int, episodes: Tensor) -> dict[str, Any]:
    interval = partial(formulas.interval_over_episodes, episodes=episodes)
    sides = {policy: side.at(frame) for policy, side in errors.items()}
    quoted: dict[str, Any] = {
        policy: side.summary()
        | {"psnr_interval": interval(side.psnr()[:, 0]), "intervals": side.intervals(episodes)}
        for policy, side in sides.items()
    }
    moving = sides["inferred"].moving_psnr() - sides["random"].moving_psnr()
    return quoted | {
        "delta_psnr": interval(_delta(sides)[:, 0]),
        "delta_psnr_moving": interval(moving[:, 0]),
    }


def held_actions(
    held: UInt8[Tensor, "N A 2 T H W C"], prompts: UInt8[Tensor, "N H W C"]
) -> dict[str, Any]:
    """Compares what the held buttons do, from the frames of `hold_actions`.

    `between_actions` and `between_seeds` are mean absolute differences in grey levels of 255;
    `distances[a][b]` is the former for actions a and b over the latter, so about 1 where two
    buttons do the same. The stillest action is the one after which the picture is nearest the
    prompt.
    """
    distances = formulas.action_distances(held)
    separation = formulas.action_separation(distances)
    chance = max(separation["between_seeds"], formulas.DISTANCE_FLOOR)
    change = formulas.frame_distance(held, prompts[:, None, None, None]).mean((0, 2, 3))
    return separation | {
        "prompts": len(held),
        "steps": held.shape[3],
        "change_from_prompt": change.tolist(),
        "stillest_action": int(change.argmin()),
        "distances": (distances / chance).tolist(),
    }


def supervised(
    latent: Tensor,
    true: Tensor,
    num_actions: int,
    names: list[str],
    seed: int,
    permutations: int = 100,
) -> dict[str, Any]:
    """Compares latent actions with the true ones of the sidecar files.

    Every figure stands beside what shuffled latent actions give, because mutual information of
    finite samples is never zero. Purity also stands beside always guessing the commonest true
    action, which it cannot fall below.

    Args:
        latent: (n,) inferred actions.
        true: (n,) true actions of the same transitions.
        num_actions: how many latent actions there are.
        names: of the true actions.
        seed: of the shuffles.
        permutations: how many shuffles.

    Returns:
        The figures; `table[a][b]` counts the transitions of latent action a and true action b, and
        `true_actions[b]` is the name of b, also of one that never occurs.
    """
    latent, true = latent.cpu(), true.cpu()
    table = formulas.contingency(latent, true, num_actions, len(names))
    chance = formulas.chance_tables(latent, true, num_actions, len(names), permutations, seed)
    information = formulas.mutual_information(table)
    true_entropy = formulas.entropy(table.sum(0))
    return {
        "transitions": len(latent),
        "mutual_information": information,
        "normalised_mutual_information": formulas.normalised_mutual_information(table),
        "share_of_true_entropy": information / true_entropy if true_entropy > 0 else 0.0,
        "true_entropy": true_entropy,
        "purity": formulas.purity(table),
        "most_common_true_action": (table.sum(0).max() / table.sum()).item(),
        "chance": _chance(chance),
        "table": table.tolist(),
        "true_actions": names,
    }


def action_maps(
    known: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    num_actions: int,
    truths: int,
    seed: int,
    counts: tuple[int, ...] = (50, 100, 200, 500, 1000, 2000),
    draws: int = 20,
) -> list[dict[str, float]]:
    """Measures how many labelled steps it takes to give the buttons names.

    As for imitation in the paper (section 3.3): the true action that stands most often beside a
    latent one among a few labelled training steps becomes its name, and the names are right in some
    share of the held-out steps. The baseline calls every step what is commonest among the few.

    Args:
        known: (m,) latent and true actions of training steps.
        held_out: (n,) latent and true actions of other steps.
        num_actions: how many latent actions there are.
        truths: how many true ones.
        seed: of the draws.
        counts: numbers of labelled steps; those beyond m are left out.
        draws: how often so many steps are drawn, for a mean.

    Returns:
        For each count the mean `accuracy`, its standard deviation `std` over draws, and that of
        the baseline, `most_common`.
    """
    latent, true = (part.cpu() for part in held_out)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for count in (c for c in counts if c <= len(known[0])):
        right, commonest = [], []
        for _ in range(draws):
            drawn = torch.randperm(len(known[0]), generator=generator)[:count]
            few = [part.cpu()[drawn] for part in known]
            table = formulas.contingency(few[0], few[1], num_actions, truths)
            right.append((formulas.action_map(table)[latent] == true).float().mean())
            commonest.append((table.sum(0).argmax() == true).float().mean())
        accuracy = torch.stack(right)
        found.append(
            {
                "labels": count,
                "accuracy": accuracy.mean().item(),
                "std": accuracy.std().item(),
                "most_common": torch.stack(commonest).mean().item(),
            }
        )
    return found


def _chance(tables: list[Tensor]) -> dict[str, float]:
    information = torch.tensor([formulas.mutual_information(t) for t in tables])
    normalised = [formulas.normalised_mutual_information(t) for t in tables]
    return {
        "permutations": len(tables),
        "mutual_information": information.mean().item(),
        "mutual_information_95": information.quantile(0.95).item(),
        "normalised_mutual_information": float(np.mean(normalised)),
        "purity": float(np.mean([formulas.purity(t) for t in tables])),
    }
