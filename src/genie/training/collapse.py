"""What there is to say about a model when its stage ends; loudly, where it has collapsed."""

from __future__ import annotations

import torch
from torch import Tensor

from genie.core.progress import say
from genie.models.latent_actions import LatentActionModel
from genie.models.tokenizer import VideoTokenizer
from genie.training import diagnostics
from genie.training.reporting import Diagnostic, DiagnosticWarnings


@torch.no_grad()
def report_tokenizer(
    tokenizer: VideoTokenizer, clips: Tensor, warnings: DiagnosticWarnings
) -> float:
    """Prints, and returns, the share of the vocabulary that clips u8 (B,T,H,W,3) use."""
    diagnostic = diagnostics.codebook_usage(tokenizer, clips)
    say(warnings.console, f"tokenizer: {diagnostic.value:.1%} of its codes in use")
    warnings.report([diagnostic])
    return diagnostic.value


@torch.no_grad()
def report_actions(
    actions: LatentActionModel, clips: Tensor, warnings: DiagnosticWarnings
) -> float:
    """Prints, and returns, the perplexity of the actions of clips u8 (B,T,H,W,3)."""
    diagnostic = diagnostics.action_perplexity(actions, clips)
    used = f"{diagnostic.value:.1f} of {actions.num_actions} in use (perplexity)"
    say(warnings.console, f"latent actions: {used}")
    if not actions.quantizer.initialized:
        missing = (
            "The latent actions have no codes yet: the stage was over before a step of its last "
            f"{1 - actions.config.continuous_fraction:.0%}, in which they are placed. Buttons mean "
            "nothing. Give the stage more steps or minutes."
        )
        warnings.report([Diagnostic("placed", 0.0, missing)])
    else:
        warnings.report([diagnostic])
    return diagnostic.value


def report_dynamics(seen: list[Diagnostic], warnings: DiagnosticWarnings) -> None:
    """Prints what was seen of the dynamics."""
    figures = "  ".join(f"{diagnostic.name} {diagnostic.value:.3g}" for diagnostic in seen)
    say(warnings.console, f"dynamics: {figures}")
    warnings.report(seen)
