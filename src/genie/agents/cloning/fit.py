"""Training of policy networks on steps of expert video."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from genie.agents.cloning.expert_steps import ExpertSteps
from genie.core.config import require
from genie.core.progress import Tick, ignore_tick
from genie.models.policy_network import PolicyNetwork, PolicyNetworkConfig

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Of the penalty on a head's weights; the best on steps that were held back is taken."""
CHECKED = 2048
"""Most steps that are held back."""


@dataclass(frozen=True)
class CloneConfig:
    """How policies are trained.

    Attributes:
        frames: last frames that a policy sees.
        channels: features of each block of its network.
        hidden: features that its heads read.
        steps: optimizer steps at most.
        batch: steps of video in each.
        learning_rate: AdamW's at first; it falls to nothing along a cosine.
        weight_decay: AdamW's weight decay.
        held_back: share of the steps that training does not see. The weights with the lowest loss
            on them are kept.
        checks: how often that loss is measured.
        patience: how many times the loss may fail to fall.
    """

    frames: int = 4
    channels: tuple[int, ...] = (16, 32, 32)
    hidden: int = 256
    steps: int = 1500
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    held_back: float = 0.1
    checks: int = 15
    patience: int = 4

    def __post_init__(self) -> None:
        """Refuses numbers with which nothing is trained."""
        for name in ("frames", "hidden", "steps", "batch", "checks", "patience"):
            require(getattr(self, name) >= 1, f"{name}: must be at least 1")
        require(0 < self.held_back < 1, "held_back: must lie between 0 and 1")

    def network(self, height: int, width: int, latent: int, real: int) -> PolicyNetworkConfig:
        """Returns the size of a network for frames of this size and so many actions."""
        return PolicyNetworkConfig(
            height, width, self.frames, self.channels, self.hidden, latent, real
        )


def fit_policy(
    network: PolicyNetwork,
    head: nn.Module,
    steps: ExpertSteps,
    targets: Int[Tensor, " n"],
    config: CloneConfig,
    seed: int = 0,
    on_check: Tick = ignore_tick,
) -> float:
    """Trains a network to take the actions of steps.

    Args:
        network: changed in place. It keeps the weights with the lowest loss on held-back steps.
        head: of the network, which rates the actions.
        steps: with their last frames.
        targets: the actions.
        config: of the training.
        seed: of the batches and the steps that are held back.
        on_check: called after each check, of which there are at most `config.checks`.

    Returns:
        The loss on the held-back steps, in nats.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(steps), generator=generator)
    held = min(CHECKED, max(1, round(config.held_back * len(steps))))
    held_back, training = order[:held], order[held:]

    def loss_on(chosen: Tensor) -> Tensor:
        features = network.features(steps.stacks(chosen, config.frames))
        return F.cross_entropy(head(features), targets[chosen])

    def batch() -> Tensor:
        drawn = torch.randint(
            len(training), (min(config.batch, len(training)),), generator=generator
        )
        return loss_on(training[drawn])

    parameters = [*network.blocks.parameters(), *network.to_features.parameters()]
    with torch.enable_grad():
        return _descend(
            network.requires_grad_(True).train(), [*parameters, *head.parameters()], batch,
            lambda: _mean_loss(loss_on, held_back), config, on_check,
        )  # fmt: skip


def _descend(
    network: nn.Module,
    parameters: list[nn.Parameter],
    batch: Callable[[], Tensor],
    check: Callable[[], float],
    config: CloneConfig,
    on_check: Tick,
) -> float:
    optimizer = torch.optim.AdamW(
        parameters, config.learning_rate, weight_decay=config.weight_decay
    )
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    best, failures, kept = check(), 0, copy.deepcopy(network.state_dict())
    interval = max(1, config.steps // config.checks)
    for step in range(1, config.steps + 1):
        loss = batch()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        falling.step()
        if step % interval == 0:
            now = check()
            on_check()
            failures = 0 if now < best else failures + 1
            if now < best:
                best, kept = now, copy.deepcopy(network.state_dict())
            elif failures == config.patience:
                break
    network.load_state_dict(kept)
    network.requires_grad_(False).eval()
    return best


@torch.no_grad()
def _mean_loss(loss_on: Callable[[Tensor], Tensor], chosen: Tensor) -> float:
    total = sum(loss_on(part).item() * len(part) for part in chosen.split(256))
    return total / len(chosen)


@torch.no_grad()
def features_of(network: PolicyNetwork, steps: ExpertSteps) -> Float[Tensor, "n hidden"]:
    """Returns the features of all steps, batch by batch."""
    parts = torch.arange(len(steps)).split(256)
    found = [network.features(steps.stacks(part, network.config.frames)) for part in parts]
    return torch.cat(found)


def fit_head(
    head: nn.Linear, features: Float[Tensor, "n hidden"], wanted: Int[Tensor, " n"], seed: int = 0
) -> None:
    """Fits a linear head to features, by logistic regression with a penalty on large weights.

    Args:
        head: changed in place.
        features: of labelled steps.
        wanted: their actions.
        seed: of the fifth that is held back to choose the penalty.
    """
    mean, spread = features.mean(0), features.std(0, correction=0) + 1e-3
    inputs = (features - mean) / spread
    order = torch.randperm(len(wanted), generator=torch.Generator().manual_seed(seed))
    held_back, training = order[: len(order) // 5], order[len(order) // 5 :]

    def loss(strength: float) -> float:
        weight, bias = _regress(inputs[training], wanted[training], head.out_features, strength)
        logits = inputs[held_back] @ weight.T + bias
        return F.cross_entropy(logits, wanted[held_back]).item()

    best = min(STRENGTHS, key=loss) if len(held_back) else STRENGTHS[-1]
    weight, bias = _regress(inputs, wanted, head.out_features, best)
    with torch.no_grad():
        head.weight.copy_(weight / spread)
        head.bias.copy_(bias - (weight / spread) @ mean)


def _regress(
    inputs: Tensor, wanted: Tensor, actions: int, strength: float
) -> tuple[Tensor, Tensor]:
    # Actions that no label has start out as unlikely as they are.
    counts = torch.bincount(wanted, minlength=actions).float()
    weight = torch.zeros(actions, inputs.shape[1], requires_grad=True)
    bias = ((counts + 0.1) / (counts.sum() + 0.1 * actions)).log().requires_grad_(True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(inputs @ weight.T + bias, wanted) + strength * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[arg-type]
    return weight.detach(), bias.detach()
