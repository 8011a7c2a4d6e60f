"""Making a mapper from a few labelled steps."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from genie.agents.labelled_steps import LabelledSteps
from genie.core.config import require
from genie.evaluation.metrics import formulas
from genie.models.action_predictor import ActionPredictor
from genie.world.action_mapper import ActionMapper, Kind, MapperConfig, smoothed_shares

MIN_HELD_BACK = 5


@dataclass(frozen=True)
class FitConfig:
    """How networks are trained on labelled steps.

    Attributes:
        width: channels of the first layer.
        steps: optimizer steps at most.
        batch: labelled steps in each.
        learning_rate: AdamW's learning rate.
        weight_decay: AdamW's weight decay.
        held_back: share of the labelled steps that training does not see. It stops when the loss on
            them no longer falls, and the weights with the lowest loss are kept.
        patience: how many times the loss may fail to fall.
        class_weights: power of the inverse frequency by which rare actions weigh more in the loss;
            0 gives every step the same weight, 1 every action.
    """

    width: int = 16
    steps: int = 800
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    held_back: float = 0.2
    patience: int = 10
    class_weights: float = 0.0


def fit_mapper(
    steps: LabelledSteps,
    kind: Kind,
    latent_actions: str = "",
    seed: int = 0,
    config: FitConfig | None = None,
) -> ActionMapper:
    """Makes a mapper.

    Args:
        steps: labelled steps.
        kind: "dictionary" or "network".
        latent_actions: hash of the world's, see `genie.world.action_mapper.latent_actions_hash`.
        seed: of the training of networks.
        config: of their training.

    Raises:
        UserError: there is no labelled step.
    """
    require(len(steps) > 0, "labels: at least 1 labelled step is needed")
    config = config or FitConfig()
    sizes = steps.num_actions, latent_actions, len(steps), config.width
    about = MapperConfig(kind, steps.names, *sizes)
    with torch.random.fork_rng([]):
        mapper = ActionMapper(about)
    mapper.counts.copy_(steps.counts)
    if kind == "network":
        now, counts = steps.frames[:, :1], steps.counts
        mapper.real_predictor = fit_predictor(
            now, steps.latent, steps.true, smoothed_shares(counts), seed, config
        )
        mapper.latent_predictor = fit_predictor(
            now, steps.true, steps.latent, smoothed_shares(counts.T), seed, config
        )
    return mapper.eval().requires_grad_(False)


def fit_predictor(
    frames: UInt8[Tensor, "n t h w 3"],
    given: Int[Tensor, " n"],
    wanted: Int[Tensor, " n"],
    table: Float[Tensor, "g k"],
    seed: int = 0,
    config: FitConfig | None = None,
) -> ActionPredictor:
    """Trains a network to predict an action, and stops early.

    Args:
        frames: what it sees.
        given: the given action; zeros where there is none.
        wanted: the action to predict.
        table: where it begins, see `ActionPredictor`.
        seed: of weights, batches and the steps that are held back.
        config: of the training.

    Returns:
        The network with the lowest loss on the steps that were held back. That may be the table.
    """
    config = config or FitConfig()
    with torch.random.fork_rng([]), torch.enable_grad():
        torch.manual_seed(seed)
        network = ActionPredictor(table, frames.shape[1], config.width)
        order = torch.randperm(len(wanted))
        kept = max(MIN_HELD_BACK, round(config.held_back * len(wanted)))
        if len(wanted) >= 2 * kept:
            weights = _class_weights(wanted, table.shape[1], config.class_weights)
            _fit(network, (frames, given, wanted), order[kept:], order[:kept], weights, config)
    return network.eval().requires_grad_(False)


def _class_weights(wanted: Tensor, size: int, power: float) -> Float[Tensor, " k"]:
    counts = torch.bincount(wanted, minlength=size).clamp_min(1)
    return (len(wanted) / counts) ** power


def _fit(
    network: ActionPredictor,
    data: tuple[Tensor, Tensor, Tensor],
    training: Tensor,
    held_back: Tensor,
    weights: Tensor,
    config: FitConfig,
) -> None:
    rates = config.learning_rate, config.weight_decay
    optimizer = torch.optim.AdamW(network.parameters(), rates[0], weight_decay=rates[1])
    interval = min(50, max(5, len(training) // config.batch))
    best, failures = _loss_on(network, data, held_back, weights), 0
    kept = copy.deepcopy(network.state_dict())
    for step in range(1, config.steps + 1):
        chosen = training[torch.randint(len(training), (min(config.batch, len(training)),))]
        frames, given, wanted = (part[chosen] for part in data)
        loss = F.cross_entropy(network(frames, given), wanted, weight=weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % interval == 0:
            now = _loss_on(network, data, held_back, weights)
            failures = 0 if now < best else failures + 1
            if now < best:
                best, kept = now, copy.deepcopy(network.state_dict())
            elif failures == config.patience:
                break
    network.load_state_dict(kept)


def _loss_on(
    network: ActionPredictor, data: tuple[Tensor, Tensor, Tensor], rows: Tensor, weights: Tensor
) -> float:
    frames, given, wanted = (part[rows] for part in data)
    logits = predict(network, frames, given)
    return F.cross_entropy(logits, wanted, weight=weights).item()


@torch.no_grad()
def predict(
    network: ActionPredictor, frames: UInt8[Tensor, "n t h w 3"], given: Int[Tensor, " n"]
) -> Float[Tensor, "n k"]:
    """Returns the logits of many steps, batch by batch."""
    parts = zip(frames.split(256), given.split(256), strict=True)
    return torch.cat([network(*part) for part in parts])


@dataclass(frozen=True)
class Information:
    """What latent actions tell about the true ones, in nats.

    Attributes:
        found: their mutual information.
        chance: what 95 % of shuffles stay below.
    """

    found: float
    chance: float

    @classmethod
    def of(cls, steps: LabelledSteps, seed: int = 0, shuffles: int = 100) -> Information:
        """Measures it on labelled steps."""
        generator = torch.Generator().manual_seed(seed)
        orders = (torch.randperm(len(steps), generator=generator) for _ in range(shuffles))
        chance = torch.tensor(
            [
                formulas.mutual_information(replace(steps, latent=steps.latent[order]).counts)
                for order in orders
            ]
        )
        return cls(formulas.mutual_information(steps.counts), chance.quantile(0.95).item())

    @property
    def above_chance(self) -> bool:
        """Whether the latent actions tell anything."""
        return self.found > self.chance

    def warning(self, labels: int) -> str:
        """Returns what to say of latent actions that tell nothing in so many labelled steps."""
        return (
            f"in {labels:,} labelled steps the latent actions say no more about the real ones than "
            f"chance does (mutual information {self.found:.3f} nats, chance {self.chance:.3f}): "
            "names will do little; give more labels, or train the latent actions longer"
        )
