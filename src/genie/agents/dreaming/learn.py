"""An actor and a critic that learn from imagined games."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genie.agents.dreaming.imagine import Dreams, action_logits
from genie.agents.dreaming.returns import lambda_returns
from genie.core.config import require
from genie.models import two_hot
from genie.models.policy_network import PolicyNetwork
from genie.models.reward_heads import FeatureConfig, FeatureNetwork


@dataclass(frozen=True)
class DreamConfig:
    """How an agent learns in the dream.

    Attributes:
        games: number of games imagined at a time.
        horizon: steps of each; the paper has 4, DIAMOND (arXiv 2405.12399) 15.
        gamma: discount of a step.
        lam: lambda of the lambda-returns.
        entropy: weight of the policy's entropy in the loss.
        learning_rate: the policy's, with Adam.
        critic_learning_rate: the critic's, with Adam.
        passes: how often each dream is learned from. With more than one, the ratio of
            probabilities is clipped, as in PPO (Schulman et al. 2017, arXiv 1707.06347).
        minibatch: steps in an optimizer step.
        clip: largest difference of the ratio from 1.
        target_decay: share of the target critic that is kept at an optimizer step.
        critic_updates: dreams that the critic alone learns from at first, so that a policy that can
            do something does not follow a critic that knows nothing.
    """

    games: int = 128
    horizon: int = 15
    gamma: float = 0.99
    lam: float = 0.95
    entropy: float = 0.003
    learning_rate: float = 3e-4
    critic_learning_rate: float = 1e-3
    passes: int = 2
    minibatch: int = 480
    clip: float = 0.2
    target_decay: float = 0.98
    critic_updates: int = 2

    def __post_init__(self) -> None:
        """Refuses numbers with which nothing is learned."""
        for name in ("games", "horizon", "passes", "minibatch"):
            require(getattr(self, name) >= 1, f"{name}: must be at least 1")
        for name in ("gamma", "lam", "target_decay"):
            require(0 <= getattr(self, name) <= 1, f"{name}: must lie in [0, 1]")
        for name in ("learning_rate", "critic_learning_rate", "clip"):
            require(getattr(self, name) > 0, f"{name}: must be above 0")
        require(self.entropy >= 0, "entropy: must not be negative")
        require(self.critic_updates >= 0, "critic_updates: must not be negative")


class Critic(nn.Module):
    """Says what a moment is worth, from the features of the dynamics.

    The value is a distribution over two-hot bins (Hafner et al. 2023, arXiv 2301.04104).

    Args:
        config: sizes.
    """

    bins: Tensor

    def __init__(self, config: FeatureConfig):
        super().__init__()
        self.frame = FeatureNetwork(config)
        self.to_value = nn.Linear(config.hidden, two_hot.BINS)
        nn.init.zeros_(self.to_value.weight)
        nn.init.zeros_(self.to_value.bias)
        self.register_buffer("bins", two_hot.bins(), persistent=False)

    def forward(self, features: Float[Tensor, "b s f"]) -> Float[Tensor, " b"]:
        """Returns the expected value of moments."""
        return two_hot.mean(self.to_value(self.frame(features.float())), self.bins)

    def loss(
        self, features: Float[Tensor, "b s f"], values: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Returns the cross-entropy of values."""
        logits = self.to_value(self.frame(features.float()))
        return -two_hot.log_likelihood(logits, values, self.bins)


class ActorCritic:
    """Learns from dreams.

    The actor follows the policy gradient of lambda-returns, whose values come from a copy of the
    critic that follows slowly. Advantages are divided by the range of returns, at least 1, as in
    DreamerV3 (Hafner et al. 2023, arXiv 2301.04104).

    Args:
        policy: the actor, which sees frames.
        config: how it learns.
        features: size of what the critic sees.
        dtype: in which the policy is computed, as in the dream: torch.float32 or torch.bfloat16.
    """

    def __init__(
        self,
        policy: PolicyNetwork,
        config: DreamConfig,
        features: FeatureConfig,
        dtype: torch.dtype = torch.float32,
    ):
        self.policy, self.config, self.dtype = policy, config, dtype
        self.critic = Critic(features)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.optimizers = (
            torch.optim.Adam(policy.parameters(), config.learning_rate, eps=1e-5),
            torch.optim.Adam(self.critic.parameters(), config.critic_learning_rate, eps=1e-5),
        )
        self.range, self.updates = 0.0, 0

    def update(self, dreams: Dreams, seed: int = 0) -> dict[str, float]:
        """Learns from dreams, and returns what is to be logged."""
        config, reached = self.config, dreams.reached()
        with torch.no_grad():
            values = self._values(dreams)
            discounts = config.gamma * dreams.going
            returns = lambda_returns(dreams.rewards, discounts, values, config.lam)
            advantages = returns - values[:, :-1]
            # A critic that is off everywhere must not make all that was done likelier.
            advantages = (advantages - advantages.mean()) / max(1.0, self._range(returns))
        data = {
            "stacks": dreams.stacks(),
            "features": dreams.features[:, :-1],
            "actions": dreams.actions,
            "log_probs": dreams.log_probs,
            "returns": returns,
            "advantages": advantages,
            "weights": reached / reached.mean(),
        }
        data = {name: part.flatten(0, 1) for name, part in data.items()}
        logs: dict[str, list[float]] = {"actor_loss": [], "critic_loss": [], "entropy": []}
        for rows in self._minibatches(len(data["actions"]), seed):
            told = self._step({name: part[rows] for name, part in data.items()})
            for name, value in told.items():
                logs[name].append(value)
        self.updates += 1
        earned = (reached * dreams.rewards).sum(1).mean().item()
        means = {name: sum(each) / len(each) for name, each in logs.items() if each}
        return {"earned": earned, "value": values[:, 0].mean().item(), **means}

    @torch.no_grad()
    def _values(self, dreams: Dreams) -> Float[Tensor, "b moments"]:
        parts = dreams.features.flatten(0, 1).split(self.config.minibatch)
        values = torch.cat([self.target(part) for part in parts])
        return values.unflatten(0, dreams.features.shape[:2])

    def _range(self, returns: Tensor) -> float:
        low, high = returns.flatten().quantile(torch.tensor([0.05, 0.95])).tolist()
        kept = 0.99 if self.updates else 0.0
        self.range = kept * self.range + (1 - kept) * (high - low)
        return self.range

    def _minibatches(self, count: int, seed: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(self.config.passes):
            yield from torch.randperm(count, generator=generator).split(self.config.minibatch)

    def _step(self, batch: dict[str, Tensor]) -> dict[str, float]:
        critic_loss = (
            batch["weights"] * self.critic.loss(batch["features"], batch["returns"])
        ).mean()
        self._descend(critic_loss, self.critic, self.optimizers[1])
        self._follow()
        told = {"critic_loss": critic_loss.item()}
        if self.updates < self.config.critic_updates:
            return told
        actor_loss, entropy = self.actor_loss(batch)
        self._descend(actor_loss, self.policy, self.optimizers[0])
        return {**told, "actor_loss": actor_loss.item(), "entropy": entropy.item()}

    def actor_loss(self, batch: dict[str, Tensor]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Returns the loss of the policy, and its entropy."""
        every = action_logits(self.policy, batch["stacks"], self.dtype).log_softmax(-1)
        entropy = -(every.exp() * every).sum(-1)
        ratio = (every.gather(1, batch["actions"][:, None])[:, 0] - batch["log_probs"]).exp()
        clipped = ratio.clamp(1 - self.config.clip, 1 + self.config.clip)
        gain = torch.minimum(ratio * batch["advantages"], clipped * batch["advantages"])
        gained = batch["weights"] * (gain + self.config.entropy * entropy)
        return -gained.mean(), entropy.mean().detach()

    def _descend(self, loss: Tensor, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()

    @torch.no_grad()
    def _follow(self) -> None:
        share = 1 - self.config.target_decay
        for slow, weight in zip(self.target.parameters(), self.critic.parameters(), strict=True):
            slow.lerp_(weight, share)

    def state(self) -> dict[str, Any]:
        """Returns all that learning needs to go on."""
        return {
            "policy": self.policy.state_dict(),
            "critic": self.critic.state_dict(),
            "target": self.target.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "range": self.range,
            "updates": self.updates,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state` returned."""
        for name in ("policy", "critic", "target"):
            getattr(self, name).load_state_dict(state[name])
        for optimizer, before in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(before)
        self.range, self.updates = state["range"], state["updates"]
