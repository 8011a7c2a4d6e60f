"""What there is to say about a model when its stage ends; loudly, where it has collapsed."""

from __future__ import annotations

import torch
from torch import Tensor

from genie.core.progress import say
from genie.models.latent_actions import LatentActionModel
from genie.models.tokenizer import VideoTokenizer
from genie.training import diagnostics
from genie.training.reporting import Sign, Warnings


@torch.no_grad()
def judge_tokenizer(tokenizer: VideoTokenizer, clips: Tensor, warnings: Warnings) -> float:
    """Prints, and returns, the share of the vocabulary that clips u8 (B,T,H,W,3) use."""
    sign = diagnostics.codes_in_use(tokenizer, clips)
    say(warnings.console, f"tokenizer: {sign.figure:.1%} of its codes in use")
    warnings.tell([sign])
    return sign.figure


@torch.no_grad()
def judge_actions(actions: LatentActionModel, clips: Tensor, warnings: Warnings) -> float:
    """Prints, and returns, the perplexity of the actions of clips u8 (B,T,H,W,3)."""
    sign = diagnostics.actions_in_use(actions, clips)
    used = f"{sign.figure:.1f} of {actions.num_actions} in use (perplexity)"
    say(warnings.console, f"latent actions: {used}")
    if not actions.quantizer.initialized:
        missing = (
            "The latent actions have no codes yet: the stage was over before a step of its last "
            f"{1 - actions.config.continuous_fraction:.0%}, in which they are placed. Buttons mean "
            "nothing. Give the stage more steps or minutes."
        )
        warnings.tell([Sign("placed", 0.0, missing)])
    else:
        warnings.tell([sign])
    return sign.figure


def judge_dynamics(seen: list[Sign], warnings: Warnings) -> None:
    """Prints what was seen of the dynamics."""
    figures = "  ".join(f"{sign.name} {sign.figure:.3g}" for sign in seen)
    say(warnings.console, f"dynamics: {figures}")
    warnings.tell(seen)
