"""Presets of our own, for one machine and for CPUs."""

from __future__ import annotations

from dataclasses import replace

from genie.models.dynamics import DynamicsConfig
from genie.models.latent_actions.motion import LatentActionConfig
from genie.models.latent_actions.pixels import PixelActionConfig
from genie.models.layers.transformer import TransformerConfig
from genie.models.quantizers.fsq import FSQConfig
from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizers.transformer import VideoTokenizerConfig
from genie.presets import paper
from genie.presets.preset import Preset
from genie.presets.schedule import StageConfig, TrainConfig
from genie.world.config import GenieConfig
from genie.world.maskgit import SamplingConfig


def tiny() -> Preset:
    """Returns the preset for two CPU cores and forty minutes."""
    # Short windows and patches that are encoded alone make steps cheap. A token or an action that
    # means the same everywhere is learned sooner. Muon and FSQ learn more per step. Each was
    # measured (docs/experiments).
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
        # No averaged weights: the codebook is initialized from latents of the current encoder.
        actions=replace(stage, minutes=8, learning_rate=2e-3, ema_decay=0),
        dynamics=replace(stage, minutes=23, batch_size=4, clip_frames=8, learning_rate=2e-3),
        previews_every=200,
    )
    return Preset(
        "64x64 patch 8, trains and plays (10 to 15 frames/s) on two CPU cores", world, train
    )


def tiny_paper() -> Preset:
    """Returns a world for two CPU cores by the rules of `coinrun-paper`."""
    layers = TransformerConfig(layers=2, width=128, heads=4, window=8)
    narrow = replace(layers, width=96, heads=3)
    world = GenieConfig(
        tokenizer=VideoTokenizerConfig(
            patch=8,
            encoder=layers,
            decoder=layers,
            quantizer=VQConfig(codes=512, dim=32),
            l1_weight=0.0,
            motion_weight=0.0,
        ),
        actions=PixelActionConfig(patch=8, encoder=narrow, decoder=narrow, dim=32),
        dynamics=replace(paper.PAPER_DYNAMICS, layers=4, width=160, heads=5, window=8),
        sampling=paper.PAPER_SAMPLING,
    )
    stage = StageConfig(
        minutes=12,
        batch_size=8,
        clip_frames=8,
        learning_rate=1e-3,
        final_learning_rate=1e-4,
        warmup_steps=50,
        ema_decay=0.99,
    )
    train = TrainConfig(
        tokenizer=stage,
        actions=replace(stage, ema_decay=0),
        dynamics=replace(stage, minutes=28),
        joint=True,
        prompt_encoding_fraction=1.0,
        previews_every=200,
    )
    return Preset("the paper's rules alone, at the size of `tiny`", world, train)


def coinrun_tiny() -> Preset:
    """Returns the preset of the world `coinrun-tiny` that comes with the package."""
    # Many small steps as in `demo`. Two frame differences are for a game in which things keep their
    # speed. Action dropout teaches that an impossible action may be ignored (docs/experiments).
    base = tiny()
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


def demo() -> Preset:
    """Returns the preset of `genie demo`, for a few minutes on two CPU cores."""
    # In a few minutes, controllability matters more than sharp frames. Many small steps are better
    # than few large ones, and a small vocabulary makes moves easy to learn (docs/experiments).
    base = tiny()
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
        # Clips of three frames, because the decoder sees no further back.
        tokenizer=replace(base.train.tokenizer, minutes=1.3, batch_size=3, clip_frames=3),
        actions=replace(base.train.actions, minutes=2),
        dynamics=replace(base.train.dynamics, minutes=3.3, clip_frames=5, learning_rate=3e-3),
        previews_every=0,  # previews and diagnostics would take time from so short a run
        diagnostics_every=0,
    )
    return Preset("the demo's: something to play after minutes on two CPU cores", world, train)


def small() -> Preset:
    """Returns a preset of about 50M parameters."""
    layers = TransformerConfig(layers=4, width=384, heads=6)
    world = GenieConfig(
        tokenizer=VideoTokenizerConfig(patch=4, encoder=layers, decoder=layers),
        actions=LatentActionConfig(
            patch=8, encoder=replace(layers, layers=3), decoder=replace(layers, layers=3), dim=32
        ),
        dynamics=DynamicsConfig(layers=7, width=384, heads=6, ffn_width=1280),
        sampling=SamplingConfig(steps=25),
    )
    return Preset("about 50M parameters", world, paper.coinrun().train)
