"""The stage that trains the dynamics on cached tokens and actions (arXiv 2402.15391, 2.1)."""

from __future__ import annotations

import torch
from torch import nn

from genie.core.progress import say
from genie.data.store import ClipStore
from genie.presets.schedule import TrainConfig
from genie.training import diagnostics, previews
from genie.training.batches import TokenBatches
from genie.training.joint import JointModel
from genie.training.read_back import ReadBackModel
from genie.training.reporting import Diagnostic, DiagnosticWarnings
from genie.training.stages.actions import report_actions
from genie.training.stages.base import DIAGNOSTIC_CLIPS, Stage, StageContext, StageInputs
from genie.training.token_cache import fingerprint, precompute_actions, precompute_tokens
from genie.world.genie import Genie

ROLLOUT_FRAMES = 9
"""Most frames of the rollouts in previews."""

DRIFT_CLIPS, DRIFT_FRAMES, SHORTEST_DRIFT = 4, 17, 5
"""How many rollouts are measured for drift, how long they are, and how long at least."""


class DynamicsStage(Stage):
    """Trains `Dynamics` to predict the tokens of the next frame.

    With joint training the latent action model is trained beside it, on the frames of the tokens.
    """

    name = "dynamics"
    needs = ("tokenizer", "actions")

    def model(self, world: Genie, train: TrainConfig) -> nn.Module:
        """Returns the dynamics, alone or as the part of a model that trains them otherwise."""
        if train.joint:
            return JointModel(world.actions, world.dynamics)
        if train.read_back.weight:
            return ReadBackModel(world.dynamics, world.tokenizer, world.actions, train.read_back)
        return world.dynamics

    def inputs(self, context: StageContext) -> StageInputs:
        """Returns clips of tokens and actions, which are computed once for the whole store."""
        stage, train, world = self.config(context.run.train), context.run.train, context.world
        models = (world.tokenizer,) if train.joint else (world.tokenizer, world.actions)
        mark = fingerprint(*models)
        read = self._batches(context)
        shown, split = context.preview_clips(min(ROLLOUT_FRAMES, stage.clip_frames))
        return StageInputs(
            read,
            preview=lambda model: previews.preview_dynamics(world, model, shown, split),
            diagnose=lambda model: diagnose_dynamics(
                world, model, context.store, stage.clip_frames
            ),
            fingerprint=mark,
        )

    def _batches(self, context: StageContext) -> TokenBatches:
        store, train, world = context.store, context.run.train, context.world
        stage = self.config(train)
        world.to(context.device)
        episode_tokens, prompt_tokens = context.precompute(
            "tokens",
            lambda told: precompute_tokens(store, world.tokenizer, stage.clip_frames, told),
        )
        actions = None
        if not train.joint:
            actions = context.precompute(
                "actions", lambda told: precompute_actions(store, world.actions, told)
            )
        return TokenBatches(
            store,
            stage.clip_frames,
            stage.batch_size,
            episode_tokens,
            prompt_tokens,
            actions,
            prompt_fraction=train.prompt_encoding_fraction,
            with_frames=train.joint,
            balanced_actions=train.balanced_actions,
        )

    def report(self, context: StageContext) -> None:
        """Prints how rollouts are, and for joint training the perplexity of the actions."""
        frames = self.config(context.run.train).clip_frames
        if context.run.train.joint:
            clips = context.diagnostic_clips(frames)
            report_actions(context.world.actions, clips, context.warnings)
        world = context.world.to(context.device)
        found = diagnose_dynamics(world, world.dynamics, context.store, frames)
        report_dynamics(found, context.warnings)
        world.cpu()


@torch.no_grad()
def diagnose_dynamics(
    world: Genie, dynamics: nn.Module, store: ClipStore, frames: int
) -> list[Diagnostic]:
    """Measures how dynamics, or a `JointModel`, play in a world.

    Args:
        world: the other models.
        dynamics: in evaluation mode.
        store: the videos.
        frames: of the clips that are predicted; rollouts are longer, where the videos are.
    """
    preview = previews.replace_dynamics(world, dynamics)
    clips = previews.held_out_clips(store, frames, DIAGNOSTIC_CLIPS).to(preview.device)
    tokens = diagnostics.in_parts(preview.tokenizer.encode, clips)
    actions = diagnostics.in_parts(preview.actions.infer, clips)
    found = [diagnostics.action_effect(preview.dynamics, tokens, actions)]
    longest = max(episode.length for episode in store.episodes_in_split("train"))
    frames = min(DRIFT_FRAMES, longest)
    if frames >= SHORTEST_DRIFT:
        clips = previews.spread_clips(store, frames, DRIFT_CLIPS, "train").to(preview.device)
        found += diagnostics.rollout_drift(preview, clips)
    return found


def report_dynamics(found: list[Diagnostic], warnings: DiagnosticWarnings) -> None:
    """Prints what was measured of the dynamics."""
    figures = "  ".join(f"{diagnostic.name} {diagnostic.value:.3g}" for diagnostic in found)
    say(warnings.console, f"dynamics: {figures}")
    warnings.report(found)


STAGE = DynamicsStage()
