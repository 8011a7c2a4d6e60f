"""Latent actions and dynamics trained in one stage, each by its own loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genie.models.dynamics import Dynamics
from genie.models.latent_actions.base import LatentActionModel


class JointModel(nn.Module):
    """Trains both models at once, as the paper does (arXiv 2402.15391, section 2.1).

    The latent actions have to train through their codes from the first step (`continuous_fraction`
    0). The actions reach the dynamics as integers, so neither loss has a gradient for the other
    model.

    Args:
        actions: trained on frames.
        dynamics: trained on tokens and the actions inferred at that moment.
    """

    def __init__(self, actions: LatentActionModel, dynamics: Dynamics) -> None:
        super().__init__()
        self.actions, self.dynamics = actions, dynamics

    @property
    def phase_boundaries(self) -> tuple[float, ...]:
        """Those of the latent actions."""
        return self.actions.phase_boundaries

    def loss(
        self, tokens: Tensor, frames: Tensor, progress: float = 1.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of both losses, for tokens (B,T,S) and the frames u8 (B,T,H,W,3) of them."""
        action_loss, action_logs = self.actions.loss(frames, progress)
        with torch.no_grad():
            actions = self.actions.infer(frames)
        loss, logs = self.dynamics.loss(tokens, actions, progress)
        logs = {**logs, **{f"action_{name}": value for name, value in action_logs.items()}}
        return loss + action_loss, logs
