"""A stage that ends collapsed says so loudly."""

from __future__ import annotations

import torch
from rich.console import Console
from torch import Tensor

from genie.actions import LatentActionModel
from genie.tokenizer import VideoTokenizer
from genie.training.pictures import perplexity
from genie.training.reporting import warn_loudly

FEWEST_ACTIONS = 2.0
"""Perplexity of the latent actions below which they are taken for collapsed."""

SMALLEST_SHARE = 0.05
"""Share of the vocabulary in use below which it is taken for collapsed."""


@torch.no_grad()
def judge_tokenizer(tokenizer: VideoTokenizer, clips: Tensor, console: Console) -> float:
    """Prints, and returns, the share of the vocabulary that clips u8 (B,T,H,W,3) use."""
    tokens = tokenizer.encode(clips)
    used, size = len(tokens.unique()), tokenizer.vocabulary
    console.print(f"tokenizer: {used} of {size} codes in use", highlight=False)
    # Few tokens cannot use many codes, so they are not held against the tokenizer.
    share = used / min(size, tokens.numel())
    # FSQ has no codebook that could die: a picture of few different things needs few of its codes.
    if share < SMALLEST_SHARE and tokenizer.config.quantizer.kind != "fsq":
        warn_loudly(
            console,
            f"The tokenizer has collapsed: only {used} of {size} codes are used. Pictures will be "
            "poor. Try a longer stage, a lower learning rate, fewer codes "
            "(--tokenizer.quantizer.codes) or the quantizer kind fsq, which cannot collapse; "
            "look at `reconstructions` in TensorBoard.",
        )
    return share


@torch.no_grad()
def judge_actions(actions: LatentActionModel, clips: Tensor, console: Console) -> float:
    """Prints, and returns, the perplexity of the actions of clips u8 (B,T,H,W,3)."""
    counts = torch.bincount(actions.infer(clips).flatten(), minlength=actions.num_actions)
    effective = perplexity(counts)
    console.print(
        f"latent actions: {effective:.1f} of {actions.num_actions} in use (perplexity)",
        highlight=False,
    )
    if not actions.quantizer.placed:
        warn_loudly(
            console,
            "The latent actions have no codes yet: the stage was over before a step of its last "
            f"{1 - actions.config.continuous_share:.0%}, in which they are placed. Buttons mean "
            "nothing. Give the stage more steps or minutes.",
        )
    elif effective < FEWEST_ACTIONS:
        warn_loudly(
            console,
            f"The latent actions have collapsed: perplexity {effective:.2f} of "
            f"{actions.num_actions}. Buttons will do nothing. Try a longer stage, a larger "
            "actions.continuous_share, more weight on what moves (actions.motion), a decoder that "
            "sees more past frames (actions.decoder.window), or videos with more varied play; "
            "look at `each_action_from_one_frame` in TensorBoard.",
        )
    return effective
