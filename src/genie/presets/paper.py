"""Presets with the sizes of the paper, from the appendix of arXiv 2402.15391 unless said otherwise.

Where the paper states a number of parameters, widths inside attention and feed-forward parts are
chosen to meet it. Its numbers leave less than half of the usual `4 * width` feed-forward part
(docs/paper.md).
"""

from __future__ import annotations

from dataclasses import replace

from genie.models.dynamics import DynamicsConfig
from genie.models.latent_actions.motion import LatentActionConfig
from genie.models.latent_actions.pixels import PixelActionConfig
from genie.models.layers.transformer import TransformerConfig
from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizers.transformer import VideoTokenizerConfig
from genie.presets.preset import Preset
from genie.presets.schedule import StageConfig, TrainConfig
from genie.world.config import GenieConfig
from genie.world.maskgit import SamplingConfig


def coinrun() -> Preset:
    """Returns the paper's CoinRun study (appendix F)."""
    layers = TransformerConfig(layers=8, width=512, heads=8, window=16)
    world = GenieConfig(
        num_actions=6,
        fps=15.0,
        tokenizer=VideoTokenizerConfig(
            patch=4, encoder=layers, decoder=layers, quantizer=VQConfig(codes=1024, dim=32)
        ),
        actions=LatentActionConfig(patch=4, encoder=layers, decoder=layers, dim=32),
        dynamics=DynamicsConfig(layers=12, width=512, heads=8, window=16),
        sampling=SamplingConfig(steps=25),
    )
    stage = StageConfig(
        steps=300_000,
        batch_size=48,
        learning_rate=3e-4,
        final_learning_rate=3e-4,
        warmup_steps=10_000,
        grad_accum_steps=12,  # four clips at once: about 2.8 GB each in bf16 (docs/experiments)
    )
    train = TrainConfig(
        tokenizer=stage,
        actions=replace(stage, ema_decay=0),
        dynamics=replace(
            stage,
            steps=200_000,
            batch_size=36,
            grad_accum_steps=9,
            learning_rate=3e-5,
            final_learning_rate=3e-6,
            warmup_steps=5_000,
        ),
        precision="bf16",
    )
    return Preset("the paper's CoinRun study (appendix F)", world, train)


PAPER_DYNAMICS = DynamicsConfig(
    window=16,
    context="masked",
    action_conditioning="add",
    mask_ratio="uniform",
    context_corruption=0.0,
    copy_head=False,
    changed_token_weight=1.0,
)
"""Dynamics that are trained as in the paper, of any size."""

PAPER_SAMPLING = SamplingConfig(steps=25, temperature=2.0, order="confidence")
"""As the paper plays (section 2.2)."""


def coinrun_paper() -> Preset:
    """Returns the CoinRun study with the paper's rules in all places, without any of ours.

    The paper leaves open how patches become one latent action (`models/latent_actions/pixels.py`)
    and the order in which tokens are kept, which is MaskGIT's: the most confident first.
    """
    base = coinrun()
    layers = TransformerConfig(layers=8, width=512, heads=8, window=16)
    world = replace(
        base.world,
        tokenizer=replace(base.world.tokenizer, l1_weight=0.0, motion_weight=0.0),
        actions=PixelActionConfig(patch=4, encoder=layers, decoder=layers, dim=32),
        dynamics=replace(PAPER_DYNAMICS, layers=12, width=512, heads=8),
        sampling=PAPER_SAMPLING,
    )
    train = replace(base.train, joint=True, prompt_encoding_fraction=1.0)
    return Preset("the CoinRun study by the paper's rules alone", world, train)


def coinrun_fast() -> Preset:
    """Returns CoinRun at patch 16, as the fastest open implementation has it."""
    base = coinrun()
    four = TransformerConfig(layers=4, width=512, heads=8, ffn_width=2048)
    world = replace(
        base.world,
        tokenizer=replace(base.world.tokenizer, patch=16, encoder=four, decoder=four),
        actions=replace(base.world.actions, patch=16, encoder=four, decoder=four),
        dynamics=replace(base.world.dynamics, layers=6, ffn_width=2048),
    )
    return Preset(
        "CoinRun at patch 16, what the fastest open implementation uses", world, base.train
    )


def scaled(
    parameters: str, layers: int, heads: int, width: int, head_width: int, ffn_width: int
) -> Preset:
    """Returns one of the paper's scaling study (section 3.1 and appendix).

    Args:
        parameters: those of the dynamics that the paper states, for the description.
        layers, heads, width: from the paper's table.
        head_width, ffn_width: chosen to meet the stated number of parameters.
    """
    base = coinrun()
    dynamics = DynamicsConfig(
        layers=layers, width=width, heads=heads, head_width=head_width, ffn_width=ffn_width
    )
    world = replace(base.world, num_actions=8, dynamics=dynamics)
    return Preset(
        f"dynamics of {parameters} parameters, the paper's scaling study", world, base.train
    )


def large() -> Preset:
    """Returns the paper's largest world, of 10.7B parameters, trained on platformers."""
    narrow = TransformerConfig(layers=12, width=512, heads=8, ffn_width=576)
    wide = TransformerConfig(layers=20, width=1024, heads=16, head_width=48, ffn_width=960)
    world = GenieConfig(
        height=90,
        width=160,
        fps=10.0,
        num_actions=8,
        tokenizer=VideoTokenizerConfig(patch=4, encoder=narrow, decoder=wide),
        actions=LatentActionConfig(
            patch=16,
            encoder=replace(wide, ffn_width=576),
            decoder=replace(wide, ffn_width=576),
            dim=32,
        ),
        dynamics=DynamicsConfig(layers=48, width=5120, heads=36, head_width=96, ffn_width=6656),
        sampling=SamplingConfig(steps=25, temperature=2.0),
    )
    stage = replace(coinrun().train.tokenizer, batch_size=512, grad_accum_steps=1)
    train = TrainConfig(
        tokenizer=stage,
        actions=replace(stage, ema_decay=0),
        dynamics=replace(stage, steps=125_000, learning_rate=3e-5, final_learning_rate=3e-6),
        precision="bf16",
    )
    return Preset("the paper's 10.7B world of platformers, 160x90", world, train)
