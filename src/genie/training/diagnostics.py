"""Signs that training goes wrong, each with its figure and what to try; cheap enough to look often.

What a person would only see after hours, in a world that does not obey or dissolves.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from genie.models.dynamics import Dynamics
from genie.models.latent_actions import LatentActionModel
from genie.models.layers.pixels import motion_mask
from genie.models.quantizers.base import perplexity
from genie.models.tokenizer import VideoTokenizer
from genie.training.previews import psnr_of
from genie.training.reporting import Sign
from genie.world.genie import Genie

FEWEST_ACTIONS = 2.0
"""Perplexity of the latent actions below which they are taken for collapsed."""

SMALLEST_SHARE = 0.05
"""Share of the vocabulary in use below which it is taken for collapsed."""

SMALLEST_GAIN = 0.1
"""Decibels by which the latent action of a step has to predict it better than that of another."""

SMALLEST_EFFECT = 0.02
"""Nats by which the right actions have to make tokens that change likelier than shuffled ones."""

LARGEST_LOSS = 3.0
"""Decibels that a rollout may be worse than showing its first frame all the time."""

LARGEST_RATIO = 3.0
"""By how much more of the picture may move in a rollout than in the video."""


CLIPS_AT_ONCE = 4
"""Clips that are looked at in one forward: looking is not to take more memory than training."""


def in_parts(compute: Callable[..., Tensor], *batches: Tensor) -> Tensor:
    """Returns what a function makes of batches that belong together, some clips at a time."""
    parts = zip(*(batch.split(CLIPS_AT_ONCE) for batch in batches), strict=True)
    return torch.cat([compute(*part) for part in parts])


@torch.no_grad()
def codes_in_use(tokenizer: VideoTokenizer, clips: Tensor) -> Sign:
    """The share of the vocabulary that clips u8 (B,T,H,W,3) use."""
    tokens = in_parts(tokenizer.encode, clips)
    used, size = len(tokens.unique()), tokenizer.vocabulary
    # Few tokens cannot use many codes, so they are not held against the tokenizer.
    share = used / min(size, tokens.numel())
    # A quantizer that cannot collapse uses few codes where a picture has few different things.
    if share >= SMALLEST_SHARE or not tokenizer.config.quantizer.can_collapse:
        return Sign("codes_in_use", share)
    return Sign(
        "codes_in_use",
        share,
        f"The tokenizer has collapsed: only {used} of {size} codes are used. Pictures will be "
        "poor. Try a longer stage, a lower learning rate, fewer codes "
        "(--tokenizer.quantizer.codes) or the quantizer kind fsq, which cannot collapse; "
        "look at `reconstructions` in TensorBoard.",
    )


@torch.no_grad()
def actions_in_use(actions: LatentActionModel, clips: Tensor) -> Sign:
    """The perplexity of the actions of clips u8 (B,T,H,W,3), whose codes have been placed."""
    codes = in_parts(actions.infer, clips)
    counts = torch.bincount(codes.flatten(), minlength=actions.num_actions)
    effective = float(perplexity(counts))
    if effective >= FEWEST_ACTIONS:
        return Sign("actions_in_use", effective)
    return Sign(
        "actions_in_use",
        effective,
        f"The latent actions have collapsed: perplexity {effective:.2f} of "
        f"{actions.num_actions}. Buttons will do nothing. Try a longer stage, a larger "
        "actions.continuous_fraction, more weight on what moves (actions.motion_weight), a "
        "decoder that sees more past frames (actions.decoder.window), or videos with more varied "
        "play (and --keep_actions false, where they come from a world of another game); "
        "look at `each_action_from_one_frame` in TensorBoard.",
    )


@torch.no_grad()
def gain_of_latents(actions: LatentActionModel, clips: Tensor) -> Sign:
    """How much better, in dB, latents predict their own steps than those of another clip."""
    name = "gain_of_latents"
    latents = in_parts(actions.latents, clips)
    real = actions.seen(clips)[:, 1:]
    own, other = (
        psnr_of(in_parts(actions.predict, clips, z), real) for z in (latents, latents.roll(1, 0))
    )
    if own - other >= SMALLEST_GAIN or len(clips) < 2:
        return Sign(name, own - other)
    return Sign(
        name,
        own - other,
        f"The latent actions say nothing: those of another clip predict a step as well "
        f"({own - other:+.2f} dB), so buttons would do nothing. Try a longer stage, more weight on "
        "what moves (actions.motion_weight), a larger actions.max_displacement, less "
        "actions.latent_noise, a higher learning rate, or videos in which more happens.",
    )


@torch.no_grad()
def effect_of_actions(dynamics: Dynamics, tokens: Tensor, actions: Tensor) -> Sign:
    """How much likelier, in nats, the changes of a last frame are with its own action than others.

    All of that frame is hidden, as when it is drawn: tokens that are drawn already would tell what
    the action was.

    Args:
        dynamics: in evaluation mode.
        tokens: clips (B,T,S).
        actions: (B,T-1); the last ones are shuffled among the clips.
    """
    name = "effect_of_actions"
    shuffled = actions.clone()
    shuffled[:, -1] = actions[:, -1].roll(1)
    last, before = tokens[:, -1], tokens[:, -2]
    changed = (last != before) & (actions[:, -1] != shuffled[:, -1])[:, None]
    if not changed.any():
        return Sign(name, 0.0)
    hidden = tokens.clone()
    hidden[:, -1] = dynamics.mask_token

    def of_last(clips: Tensor, given: Tensor) -> Tensor:
        return dynamics.logits(clips, given)[:, -1]

    right, wrong = (
        float(F.cross_entropy(in_parts(of_last, hidden, given)[changed], last[changed]))
        for given in (actions, shuffled)
    )
    effect = wrong - right
    if effect >= SMALLEST_EFFECT:
        return Sign(name, effect)
    return Sign(
        name,
        effect,
        f"The dynamics ignore the actions: with another's action what changes is as likely "
        f"({effect:+.3f} nats), so buttons do nothing. Try a longer stage, a higher learning rate, "
        "a larger dynamics.changed_token_weight or a smaller dynamics.static_action_dropout; and "
        "see whether the latent actions say something (`gain_of_latents` and "
        "`each_action_from_one_frame` of their stage in TensorBoard).",
    )


@torch.no_grad()
def drift(world: Genie, clips: Tensor) -> list[Sign]:
    """Whether a rollout holds together over the second half of clips u8 (B,T,H,W,3).

    It starts from the first frame of each clip and is given the actions inferred from it.

    Returns:
        How much better, in dB, it is than showing the first frame all the time; and how much more
        of the picture moves in it than in the clips.
    """
    rolled = world.generate(clips[:, :1], world.actions.infer(clips))
    half = clips.shape[1] // 2
    still, real, made = (x[:, half:] for x in (clips[:, :1].expand_as(clips), clips, rolled))
    gain = psnr_of(made, real) - psnr_of(still, real)
    motion, true_motion = (float(motion_mask(x)[:, 1:].float().mean()) for x in (made, real))
    ratio = (motion + 1e-3) / (true_motion + 1e-3)
    what_to_try = (
        "Try a longer stage of the dynamics, a larger dynamics.context_corruption, longer clips "
        "(train.dynamics.clip_frames), a lower sampling.temperature, or a tokenizer that "
        "reconstructs better; look at `rollouts` in TensorBoard."
    )
    steps = clips.shape[1] - 1
    worse = (
        f"Rollouts drift: after {half} to {steps} steps they are {-gain:.1f} dB further from the "
        f"video than its first frame is. {what_to_try}"
    )
    restless = (
        f"Rollouts run away: after {half} to {steps} steps {ratio:.1f} times as much of the "
        f"picture moves as in the video. {what_to_try}"
    )
    return [
        Sign("rollout_gain_over_copying", gain, worse if gain < -LARGEST_LOSS else ""),
        Sign("rollout_motion_ratio", ratio, restless if ratio > LARGEST_RATIO else ""),
    ]
