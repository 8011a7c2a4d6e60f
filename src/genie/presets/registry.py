"""Named configurations: sizes of a world and the training that goes with them.

Sizes are from the appendix of arXiv 2402.15391 unless said otherwise. Where the paper states a
parameter count, widths inside attention and feed-forward parts are chosen to meet it: its counts
leave less than half of the usual `4 * width` feed-forward part (docs/paper.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from genie.core.config import UserError, overridden
from genie.models.dynamics import DynamicsConfig
from genie.models.latent_actions import LatentActionConfig
from genie.models.layers.transformer import TransformerConfig
from genie.models.quantizers.fsq import FSQConfig
from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizer import VideoTokenizerConfig
from genie.presets.schedule import StageConfig, TrainConfig
from genie.world.config import GenieConfig
from genie.world.genie import Genie
from genie.world.maskgit import SamplingConfig


@dataclass(frozen=True)
class Preset:
    """A named configuration.

    Attributes:
        about: what it is, in a line.
        world: the sizes.
        train: the schedule.
    """

    about: str
    world: GenieConfig = field(default_factory=GenieConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def names() -> list[str]:
    """Names of all presets, smallest first."""
    return list(PRESETS)


def get(name: str) -> Preset:
    """The preset of a name.

    Raises:
        UserError: there is none of this name.
    """
    if name not in PRESETS:
        raise UserError(f"preset: there is no {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def create_genie_small(**overrides: Any) -> Genie:
    """A new world of the preset `small`, about 50M parameters.

    `overrides` are fields of `GenieConfig`; nested ones take dicts, as in
    `create_genie_small(dynamics={"layers": 8})`.
    """
    return Genie(overridden(get("small").world, overrides))


def create_genie_large(**overrides: Any) -> Genie:
    """A new world of the preset `large`, the paper's 10.7B: 43 GB in fp32.

    Build it under `torch.device("meta")` to look at it only. `overrides` as for the small one.
    """
    return Genie(overridden(get("large").world, overrides))


def _tiny() -> Preset:
    # Sizes, budgets and rates for forty minutes on two CPU cores (docs/experiments): short windows
    # and patches that are treated alone buy steps, and a token or an action that means the same
    # everywhere is learned soon; Muon and FSQ get more out of each step.
    space = TransformerConfig(layers=2, width=128, heads=4, window=1)
    alone = replace(space, spatial_attention=False)
    world = GenieConfig(
        tokenizer=VideoTokenizerConfig(
            patch=8,
            encoder=alone,
            decoder=replace(space, window=2),
            quantizer=FSQConfig(codes=1000),
        ),
        actions=LatentActionConfig(
            downsample=2,
            patch=4,
            patch_overlap=4,
            num_motions=3,
            encoder=replace(alone, width=96, heads=3),
            decoder=replace(alone, width=96, heads=3, window=3),
        ),
        dynamics=DynamicsConfig(
            layers=4, width=160, heads=5, window=5, mask_ratio="linear", static_action_dropout=0.5
        ),
        sampling=SamplingConfig(steps=4, temperature=0.7),
    )
    stage = StageConfig(
        minutes=9,
        batch_size=16,
        clip_frames=4,
        learning_rate=3e-3,
        final_learning_rate=2e-4,
        warmup_steps=50,
        optimizer="muon",
        beta2=0.999,
        muon_lr_scale=5,
        ema_decay=0.99,
    )
    train = TrainConfig(
        tokenizer=replace(stage, batch_size=4),
        # No average: the codes are placed where the encoder of the moment puts its latents.
        actions=replace(stage, minutes=8, learning_rate=2e-3, ema_decay=0),
        dynamics=replace(stage, minutes=23, batch_size=4, clip_frames=8, learning_rate=2e-3),
        previews_every=200,
    )
    return Preset(
        "64x64 patch 8, trains and plays (10 to 15 frames/s) on two CPU cores", world, train
    )


def _coinrun_tiny() -> Preset:
    # For the bundled world: what `demo` found about many small steps, with more minutes, actions
    # for a game in which things keep their speed, and buttons to be doubted (docs/experiments).
    base = _tiny()
    actions = replace(base.world.actions, num_frame_differences=2, latent_noise=1.0)
    dynamics = replace(
        base.world.dynamics, layers=3, width=128, heads=4, window=4, action_dropout=0.25
    )
    sampling = replace(base.world.sampling, steps=2, temperature=1.0)
    world = replace(base.world, actions=actions, dynamics=dynamics, sampling=sampling)
    train = replace(
        base.train,
        tokenizer=replace(base.train.tokenizer, minutes=22),
        actions=replace(base.train.actions, minutes=10, batch_size=12, clip_frames=5),
        dynamics=replace(base.train.dynamics, minutes=95, clip_frames=6),
    )
    return Preset("of the world that comes with the package, 64x64 patch 8", world, train)


def _demo() -> Preset:
    # For minutes: obeying matters more than a sharp picture, many small steps more than few large
    # ones, and few tokens that mean the same everywhere make moves easy to learn: see
    # docs/experiments.
    base = _tiny()
    tokenizer = base.world.tokenizer
    world = replace(
        base.world,
        tokenizer=replace(tokenizer, quantizer=replace(tokenizer.quantizer, codes=64)),
        actions=replace(
            base.world.actions, downsample=4, patch=2, patch_overlap=2, max_displacement=2
        ),
        dynamics=replace(base.world.dynamics, layers=2, width=96, heads=3, window=3),
    )
    train = replace(
        base.train,
        # Clips of three frames: as far as the decoder sees back.
        tokenizer=replace(base.train.tokenizer, minutes=1.3, batch_size=3, clip_frames=3),
        actions=replace(base.train.actions, minutes=2),
        dynamics=replace(base.train.dynamics, minutes=3.3, clip_frames=5, learning_rate=3e-3),
        previews_every=0,  # pictures and looks for trouble would take time from so short a run
        diagnostics_every=0,
    )
    return Preset("the demo's: something to play after minutes on two CPU cores", world, train)


def _coinrun() -> Preset:
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


def _coinrun_fast() -> Preset:
    base = _coinrun()
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


def _small() -> Preset:
    layers = TransformerConfig(layers=4, width=384, heads=6)
    world = GenieConfig(
        tokenizer=VideoTokenizerConfig(patch=4, encoder=layers, decoder=layers),
        actions=LatentActionConfig(
            patch=8, encoder=replace(layers, layers=3), decoder=replace(layers, layers=3), dim=32
        ),
        dynamics=DynamicsConfig(layers=7, width=384, heads=6, ffn_width=1280),
        sampling=SamplingConfig(steps=25),
    )
    return Preset("about 50M parameters", world, _coinrun().train)


def _scaled(
    parameters: str, layers: int, heads: int, width: int, head_width: int, ffn_width: int
) -> Preset:
    base = _coinrun()
    dynamics = DynamicsConfig(
        layers=layers, width=width, heads=heads, head_width=head_width, ffn_width=ffn_width
    )
    world = replace(base.world, num_actions=8, dynamics=dynamics)
    return Preset(
        f"dynamics of {parameters} parameters, the paper's scaling study", world, base.train
    )


def _large() -> Preset:
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
    stage = replace(_coinrun().train.tokenizer, batch_size=512, grad_accum_steps=1)
    train = TrainConfig(
        tokenizer=stage,
        actions=replace(stage, ema_decay=0),
        dynamics=replace(stage, steps=125_000, learning_rate=3e-5, final_learning_rate=3e-6),
        precision="bf16",
    )
    return Preset("the paper's 10.7B world of platformers, 160x90", world, train)


PRESETS: dict[str, Preset] = {
    "demo": _demo(),
    "tiny": _tiny(),
    "coinrun-tiny": _coinrun_tiny(),
    "coinrun-fast": _coinrun_fast(),
    "coinrun": _coinrun(),
    "small": _small(),
    "41m": _scaled("41M", 18, 8, 512, 48, 576),
    "96m": _scaled("96M", 16, 16, 768, 48, 768),
    "192m": _scaled("192M", 20, 18, 1024, 48, 1152),
    "404m": _scaled("404M", 21, 12, 1536, 96, 1600),
    "811m": _scaled("811M", 20, 20, 2048, 96, 2176),
    "1.6b": _scaled("1.6B", 28, 22, 2560, 96, 2688),
    "2.7b": _scaled("2.7B", 36, 22, 3072, 96, 3712),
    "large": _large(),
}
