"""Heads on the dynamics' features: what a step earns, and whether it ends the episode."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from genie.core.config import require, require_at_most
from genie.models import two_hot
from genie.models.layers.distributed import mean_over_ranks

POOLED = 4
"""Rows and columns of a frame that are left when its features are flattened, at most."""


@dataclass(frozen=True)
class FeatureConfig:
    """Size of a network on the features of a frame.

    Attributes:
        features: F, features of a token, see `DynamicsState.features`.
        rows: of tokens.
        columns: of tokens.
        width: features of a token inside the network.
        hidden: features of a frame inside the network.
    """

    features: int
    rows: int
    columns: int
    width: int = 64
    hidden: int = 128

    def __post_init__(self) -> None:
        """Refuses sizes that no network has."""
        for name in ("features", "rows", "columns", "width", "hidden"):
            require(getattr(self, name) >= 1, f"{name}: must be at least 1")
        require_at_most(self, features=2**20, rows=2048, columns=2048, width=4096, hidden=65_536)


@dataclass(frozen=True)
class RewardHeadsConfig(FeatureConfig):
    """Size of the heads.

    Attributes:
        num_actions: A, the number of latent actions.
    """

    num_actions: int = 8

    def __post_init__(self) -> None:
        """Refuses sizes that no heads have."""
        super().__post_init__()
        require(1 <= self.num_actions <= 4096, "num_actions: expected from 1 to 4096")


class FeatureNetwork(nn.Module):
    """A convolutional network over the features of a frame's tokens.

    Args:
        config: its size.
    """

    def __init__(self, config: FeatureConfig):
        super().__init__()
        self.grid = config.rows, config.columns
        self.norm = nn.LayerNorm(config.features)
        self.narrow = nn.Linear(config.features, config.width)
        self.near = nn.Conv2d(config.width, config.width, 3, padding=1)
        self.far = nn.Conv2d(config.width, config.width, 3, stride=2, padding=1)
        pooled = [min(POOLED, (side + 1) // 2) for side in self.grid]
        self.pool = nn.AdaptiveAvgPool2d((pooled[0], pooled[1]))
        self.to_hidden = nn.Linear(config.width * pooled[0] * pooled[1], config.hidden)

    def forward(self, features: Float[Tensor, "b s f"]) -> Float[Tensor, "b h"]:
        """Returns features of frames."""
        x = F.gelu(self.narrow(self.norm(features)))
        x = x.unflatten(1, self.grid).permute(0, 3, 1, 2)
        x = F.gelu(self.far(F.gelu(self.near(x))))
        return F.gelu(self.to_hidden(self.pool(x).flatten(1)))


@dataclass(frozen=True)
class Outcomes:
    """What the heads say about a step, for each latent action that could be taken.

    Attributes:
        action: log-probability that the action is taken, in play like that of the training data.
        reward: logits of the bins of the reward.
        end: logit of the end of the episode.
    """

    action: Float[Tensor, "b a"]
    reward: Float[Tensor, "b a n"]
    end: Float[Tensor, "b a"]


class RewardHeads(nn.Module):
    """Predicts reward and end of the step that an action leads to, from the state before it.

    The reward is a distribution over bins and the end a Bernoulli one, as in DreamerV3 (Hafner et
    al. 2023, arXiv 2301.04104). They depend on the frames so far and on the action, and not on the
    frame that the action leads to: games such as those of Procgen never show the last one.

    So there is also no latent action of a last step to train on. The loss then sums over all that
    it could be. A third head says how likely each is there, and the true action says more.
    Otherwise the lack of an action would give the end away.

    Args:
        config: sizes.
    """

    bins: Tensor

    def __init__(self, config: RewardHeadsConfig):
        super().__init__()
        self.config = config
        self.frame = FeatureNetwork(config)
        self.action = nn.Embedding(config.num_actions, config.hidden)
        self.mix = nn.Linear(config.hidden, config.hidden)
        self.to_action = nn.Linear(config.hidden, config.num_actions)
        self.to_reward = nn.Linear(config.hidden, two_hot.BINS)
        self.to_end = nn.Linear(config.hidden, 1)
        for head in (self.to_action, self.to_reward, self.to_end):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        self.register_buffer("bins", two_hot.bins(), persistent=False)

    def outcomes(self, features: Float[Tensor, "b s f"]) -> Outcomes:
        """Returns what is said of each action.

        Args:
            features: of the dynamics, after the frame that is acted on.
        """
        seen = self.frame(features)
        each = F.gelu(self.mix(seen[:, None] + self.action.weight))
        action = self.to_action(seen).log_softmax(-1)
        return Outcomes(action, self.to_reward(each), self.to_end(each)[..., 0])

    def forward(
        self, features: Float[Tensor, "b s f"], actions: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Returns the expected reward of each step, and the probability that it ends the episode.

        Args:
            features: of the dynamics, after the frame that is acted on.
            actions: latent actions that are taken there.
        """
        chosen = F.gelu(self.mix(self.frame(features) + self.action(actions)))
        reward = two_hot.mean(self.to_reward(chosen), self.bins)
        return reward, self.to_end(chosen)[:, 0].sigmoid()

    def whatever_action(
        self, features: Float[Tensor, "b s f"]
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Returns what `forward` does, for an unknown action of play like the training data's."""
        told = self.outcomes(features)
        share = told.action.exp()
        reward = two_hot.mean(told.reward, self.bins)
        return (share * reward).sum(-1), (share * told.end.sigmoid()).sum(-1)

    def loss(
        self,
        features: Float[Tensor, "b s f"],
        actions: Int[Tensor, " b"],
        rewards: Float[Tensor, " b"],
        ends: Float[Tensor, " b"],
        weights: Float[Tensor, " b"],
        evidence: Float[Tensor, "b a"] | None = None,
        progress: float = 1.0,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Computes the negative log-likelihood of actions, rewards and ends.

        Args:
            features: of the dynamics, after the frames that were acted on.
            actions: latent actions that were taken; -1 where that is unknown.
            rewards: of these steps.
            ends: 1 where the step ended the episode by the game's rules.
            weights: of the steps in the loss.
            evidence: log-likelihood of what else is known of a step, such as its true action, for
                each latent action; it counts where the latent one is unknown.
            progress: fraction of the training budget that is used; not needed here.

        Returns:
            The loss, and its parts where the action is known.
        """
        told = self.outcomes(features)
        values = rewards[:, None].expand_as(told.end)
        reward = two_hot.log_likelihood(told.reward, values, self.bins)
        targets = ends[:, None].expand_as(told.end)
        end = -F.binary_cross_entropy_with_logits(told.end, targets, reduction="none")
        both = told.action + reward + end
        known = actions >= 0
        given = actions.clamp_min(0)[:, None]
        each = both if evidence is None else both + evidence
        likelihood = torch.where(known, both.gather(1, given)[:, 0], each.logsumexp(1))
        total = weights.sum()
        if self.training:
            mean_over_ranks(total)
        share = weights / total.clamp_min(1e-6)
        parts = {"action": told.action, "reward": reward, "end": end}
        seen = share * known
        logs = {
            f"{name}_loss": -(seen * part.detach().gather(1, given)[:, 0]).sum() / seen.sum()
            for name, part in parts.items()
        }
        return -(share * likelihood).sum(), logs
