"""Measures of a model in training, each with a warning that says what to try.

They are cheap enough to be taken often. They show early what a person would only see after hours:
a world that ignores its actions or loses coherence.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from genie.models.backbone import TokenizerBackbone
from genie.models.dynamics import Dynamics
from genie.models.latent_actions.base import LatentActionModel
from genie.models.layers.pixels import motion_mask
from genie.models.quantizers.base import perplexity
from genie.models.quantizers.registry import KINDS
from genie.training.previews import psnr_of
from genie.training.reporting import Diagnostic
from genie.world.genie import Genie

MIN_ACTION_PERPLEXITY = 2.0
"""Perplexity of the latent actions below which they count as collapsed."""

MIN_CODEBOOK_USAGE = 0.05
"""Fraction of the vocabulary in use below which the tokenizer counts as collapsed."""

MIN_LATENT_GAIN = 0.1
"""dB by which a step's own latent action has to predict it better than another one."""

MIN_ACTION_EFFECT = 0.02
"""Nats by which the right actions have to predict changed tokens better than shuffled ones."""

MAX_LOSS = 3.0
"""dB that a rollout may be worse than repeating its first frame."""

MAX_MOTION_RATIO = 3.0
"""How many times as many pixels may move in a rollout as in the video."""

CLIPS_AT_ONCE = 4
"""Clips in one forward pass, so that diagnostics take no more memory than training."""


def in_parts(compute: Callable[..., Tensor], *batches: Tensor) -> Tensor:
    """Applies a function to batches that belong together, some clips at a time."""
    parts = zip(*(batch.split(CLIPS_AT_ONCE) for batch in batches), strict=True)
    return torch.cat([compute(*part) for part in parts])


@torch.no_grad()
def codebook_usage(tokenizer: TokenizerBackbone, clips: Tensor) -> Diagnostic:
    """Measures the fraction of the vocabulary that clips u8 (B,T,H,W,3) use."""
    tokens = in_parts(tokenizer.encode, clips)
    used, size = len(tokens.unique()), tokenizer.vocabulary
    # Few tokens cannot use many codes, so they are not held against the tokenizer.
    fraction = used / min(size, tokens.numel())
    # A quantizer that cannot collapse uses few codes where a picture has few different things.
    if fraction >= MIN_CODEBOOK_USAGE or not tokenizer.can_collapse:
        return Diagnostic("codebook_usage", fraction)
    safe = " or ".join(kind for kind, cls in KINDS.items() if not cls.can_collapse)
    return Diagnostic(
        "codebook_usage",
        fraction,
        f"The tokenizer has collapsed: only {used} of {size} codes are used. Frames will be "
        "poor. Try a longer stage, a lower learning rate, fewer codes "
        f"(--tokenizer.quantizer.codes) or the quantizer kind {safe}, which cannot collapse; "
        "look at `reconstructions` in TensorBoard.",
    )


@torch.no_grad()
def action_perplexity(actions: LatentActionModel, clips: Tensor) -> Diagnostic:
    """Measures the perplexity of the actions of clips u8 (B,T,H,W,3), once there are codes."""
    codes = in_parts(actions.infer, clips)
    counts = torch.bincount(codes.flatten(), minlength=actions.num_actions)
    effective = float(perplexity(counts))
    if effective >= MIN_ACTION_PERPLEXITY:
        return Diagnostic("action_perplexity", effective)
    return Diagnostic(
        "action_perplexity",
        effective,
        f"The latent actions have collapsed: perplexity {effective:.2f} of "
        f"{actions.num_actions}. They will do nothing. Try a longer stage, a larger "
        "actions.continuous_fraction, more weight on what moves (actions.motion_weight), a "
        "decoder that sees more past frames (actions.decoder.window), or videos with more varied "
        "play (and --keep_actions false, where they come from a world of another game); "
        "look at `each_action_from_one_frame` in TensorBoard.",
    )


@torch.no_grad()
def latent_gain(actions: LatentActionModel, clips: Tensor) -> Diagnostic:
    """Measures how much better, in dB, latents predict their own steps than another clip's."""
    name = "latent_gain"
    latents = in_parts(actions.latents, clips)
    real = actions.downsampled(clips)[:, 1:]
    own, other = (
        psnr_of(in_parts(actions.predict, clips, z), real) for z in (latents, latents.roll(1, 0))
    )
    if own - other >= MIN_LATENT_GAIN or len(clips) < 2:
        return Diagnostic(name, own - other)
    return Diagnostic(
        name,
        own - other,
        f"The latent actions say nothing: those of another clip predict a step as well "
        f"({own - other:+.2f} dB), so actions would do nothing. Try a longer stage, more weight on "
        "what moves (actions.motion_weight), a larger actions.max_displacement, less "
        "actions.latent_noise, a higher learning rate, or videos in which more happens.",
    )


@torch.no_grad()
def action_effect(dynamics: Dynamics, tokens: Tensor, actions: Tensor) -> Diagnostic:
    """Measures how much likelier, in nats, the last frame's changes are with its own action.

    All of that frame is masked, as when it is predicted: tokens that are known already would give
    the action away.

    Args:
        dynamics: in evaluation mode.
        tokens: clips (B,T,S).
        actions: (B,T-1); the last ones are shuffled among the clips.
    """
    name = "action_effect"
    shuffled = actions.clone()
    shuffled[:, -1] = actions[:, -1].roll(1)
    last, before = tokens[:, -1], tokens[:, -2]
    changed = (last != before) & (actions[:, -1] != shuffled[:, -1])[:, None]
    if not changed.any():
        return Diagnostic(name, 0.0)
    hidden = tokens.clone()
    hidden[:, -1] = dynamics.mask_token

    def of_last(clips: Tensor, given: Tensor) -> Tensor:
        return dynamics.logits(clips, given)[:, -1]

    right, wrong = (
        float(F.cross_entropy(in_parts(of_last, hidden, given)[changed], last[changed]))
        for given in (actions, shuffled)
    )
    effect = wrong - right
    if effect >= MIN_ACTION_EFFECT:
        return Diagnostic(name, effect)
    return Diagnostic(
        name,
        effect,
        f"The dynamics ignore the actions: with another's action what changes is as likely "
        f"({effect:+.3f} nats), so actions do nothing. Try a longer stage, a higher learning rate, "
        "a larger dynamics.changed_token_weight or a smaller dynamics.static_action_dropout; and "
        "see whether the latent actions say something (`latent_gain` and "
        "`each_action_from_one_frame` of their stage in TensorBoard).",
    )


@torch.no_grad()
def rollout_drift(world: Genie, clips: Tensor) -> list[Diagnostic]:
    """Measures how far rollouts drift over the second half of clips u8 (B,T,H,W,3).

    A rollout starts from the first frame of a clip and plays the actions inferred from the clip.

    Returns:
        How much better, in dB, it is than repeating the first frame; and how many times as many
        pixels move in it as in the clips.
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
        Diagnostic("rollout_gain_over_copying", gain, worse if gain < -MAX_LOSS else ""),
        Diagnostic("rollout_motion_ratio", ratio, restless if ratio > MAX_MOTION_RATIO else ""),
    ]
