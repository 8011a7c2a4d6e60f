"""The stage that trains the latent action model on frames (arXiv 2402.15391, section 2.1)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from genie.core.progress import say
from genie.models.latent_actions.base import LatentActionModel
from genie.training import diagnostics, previews
from genie.training.finetune import BaseWorld
from genie.training.reporting import Diagnostic, DiagnosticWarnings
from genie.training.stages.base import Stage, StageContext, StageInputs, frame_inputs
from genie.training.token_cache import fingerprint
from genie.world.config import GenieConfig


class ActionsStage(Stage):
    """Trains `LatentActionModel` to predict the next frame through a codebook of actions."""

    name = "actions"
    joins = "dynamics"

    def inputs(self, context: StageContext) -> StageInputs:
        """Returns clips of frames."""
        found = frame_inputs(self, context, previews.preview_actions, diagnose_actions)
        others = context.world.actions.reads
        return replace(found, fingerprint=fingerprint(*others)) if others else found

    def reads(self, world: GenieConfig) -> tuple[str, ...]:
        """The tokenizer, where latent actions are inferred from tokens."""
        return ("tokenizer",) if world.actions.from_tokens else ()

    def report(self, context: StageContext) -> None:
        """Prints the perplexity of the actions."""
        clips = context.diagnostic_clips(self.config(context.run.train).clip_frames)
        report_actions(context.world.actions, clips, context.warnings)

    def kept(self, base: BaseWorld) -> bool:
        """Whether actions of the base world keep their meaning."""
        return base.keep_actions

    def missing(self, base: BaseWorld | None) -> str:
        """Says so where a base world has no codes before they are placed anew."""
        if base is not None and not base.keep_actions:
            return (
                "keep_actions: false places the codes of latent actions anew, but their stage has "
                "not run; give it steps or minutes, or keep the actions"
            )
        return super().missing(base)


@torch.no_grad()
def diagnose_actions(actions: nn.Module, clips: Tensor) -> list[Diagnostic]:
    """Measures a latent action model on clips u8 (B,T,H,W,3)."""
    assert isinstance(actions, LatentActionModel)
    clips = clips.to(actions.device)
    found = [diagnostics.latent_gain(actions, clips)]
    if actions.quantizer.initialized:
        found.append(diagnostics.action_perplexity(actions, clips))
    return found


@torch.no_grad()
def report_actions(
    actions: LatentActionModel, clips: Tensor, warnings: DiagnosticWarnings
) -> float:
    """Prints, and returns, the perplexity of the actions of clips u8 (B,T,H,W,3)."""
    perplexity = diagnostics.action_perplexity(actions, clips)
    used = f"{perplexity.value:.1f} of {actions.num_actions} in use (perplexity)"
    say(warnings.console, f"latent actions: {used}")
    if not actions.quantizer.initialized:
        missing = (
            "The latent actions have no codes yet: the stage was over before a step of its last "
            f"{1 - actions.config.continuous_fraction:.0%}, in which they are placed. Actions mean "
            "nothing. Give the stage more steps or minutes."
        )
        warnings.report([Diagnostic("initialized", 0.0, missing)])
    else:
        warnings.report([perplexity])
    return perplexity.value


STAGE = ActionsStage()
