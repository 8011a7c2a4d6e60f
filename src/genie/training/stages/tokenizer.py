"""The stage that trains the video tokenizer on frames (arXiv 2402.15391, section 2.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genie.core.config import require
from genie.core.progress import say
from genie.models.backbone import TokenizerBackbone
from genie.models.tokenizers.base import Tokenizer
from genie.presets.schedule import TrainConfig
from genie.training import diagnostics, previews
from genie.training.reporting import Diagnostic, DiagnosticWarnings
from genie.training.stages.base import Stage, StageContext, StageInputs, frame_inputs
from genie.training.tokenizer_losses import TokenizerWithLosses, tokenizer_of
from genie.world.genie import Genie


class TokenizerStage(Stage):
    """Trains `VideoTokenizer` to reconstruct frames."""

    name = "tokenizer"

    def model(self, world: Genie, train: TrainConfig) -> nn.Module:
        """Returns the tokenizer, with the networks of its losses where it has any."""
        losses = world.config.tokenizer.extra_losses
        if not losses.any:
            return world.tokenizer
        require(
            not (train.compile and losses.adversarial_weight),
            "tokenizer.extra_losses.adversarial_weight: its weight needs gradients inside the "
            "loss, which cannot be compiled; set train.compile to false",
        )
        assert isinstance(world.tokenizer, Tokenizer)
        return TokenizerWithLosses(world.tokenizer)

    def inputs(self, context: StageContext) -> StageInputs:
        """Returns clips of frames."""
        return frame_inputs(self, context, _preview, diagnose_tokenizer)

    def report(self, context: StageContext) -> None:
        """Prints the codes in use."""
        clips = context.diagnostic_clips(self.config(context.run.train).clip_frames)
        report_tokenizer(context.world.tokenizer, clips, context.warnings)


def _preview(model: nn.Module, clips: Tensor, split: str) -> previews.PreviewImages:
    return previews.preview_tokenizer(tokenizer_of(model), clips, split)


@torch.no_grad()
def diagnose_tokenizer(model: nn.Module, clips: Tensor) -> list[Diagnostic]:
    """Measures a tokenizer on clips u8 (B,T,H,W,3)."""
    tokenizer = tokenizer_of(model)
    assert isinstance(tokenizer, TokenizerBackbone)
    return [diagnostics.codebook_usage(tokenizer, clips.to(tokenizer.device))]


@torch.no_grad()
def report_tokenizer(
    tokenizer: TokenizerBackbone, clips: Tensor, warnings: DiagnosticWarnings
) -> float:
    """Prints, and returns, the fraction of the vocabulary that clips u8 (B,T,H,W,3) use."""
    usage = diagnostics.codebook_usage(tokenizer, clips)
    say(warnings.console, f"tokenizer: {usage.value:.1%} of its codes in use")
    warnings.report([usage])
    return usage.value


STAGE = TokenizerStage()
