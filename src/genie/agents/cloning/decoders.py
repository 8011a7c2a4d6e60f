"""From a policy over latent actions to real ones, with a number of labelled steps."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from genie.agents.agent import Agent, AgentConfig
from genie.agents.cloning.expert_steps import ExpertSteps
from genie.agents.cloning.fit import CloneConfig, features_of, fit_head, fit_policy
from genie.agents.mapper import fit_mapper
from genie.models.policy_network import PolicyNetwork
from genie.world.action_mapper import ActionMapper, Kind

Decoder = Literal["dictionary", "network", "head", "finetuned"]
DECODERS: tuple[Decoder, ...] = ("dictionary", "network", "head", "finetuned")
FINETUNED_RATE = 0.3
"""Of the learning rate of a new policy."""


@dataclass(frozen=True)
class Decoding:
    """Makes agents of a policy over latent actions.

    Attributes:
        policy: rates latent actions. Its head for real actions is not fitted.
        features: of all steps that labels are sampled from, by `features_of`.
        pool: these steps, in the order in which their labels are used.
        config: of trainings.
        latent_actions: hash of the latent action model.
        seed: of trainings.
    """

    policy: PolicyNetwork
    features: Tensor
    pool: ExpertSteps
    config: CloneConfig
    latent_actions: str
    seed: int = 0

    @classmethod
    def of(
        cls,
        policy: PolicyNetwork,
        pool: ExpertSteps,
        config: CloneConfig,
        latent_actions: str = "",
        seed: int = 0,
    ) -> Decoding:
        """Computes the features of the steps."""
        return cls(policy, features_of(policy, pool), pool, config, latent_actions, seed)

    def agent(self, decoder: Decoder, labels: int) -> Agent:
        """Returns an agent that acts in the real game.

        Args:
            decoder: "dictionary" samples a latent action and then a true one that was seen with it,
                as in the paper (appendix E). "network" does so with a network that sees the frame.
                "head" reads true actions off the features of the policy. "finetuned" trains all of
                the policy on the labelled steps, from there on. The last two are those of LAPO
                (arXiv 2312.10812).
            labels: how many of the steps are used.
        """
        if decoder in ("dictionary", "network"):
            return self._mapped(decoder, labels)
        network = copy.deepcopy(self.policy)
        few = self.pool.take(torch.arange(labels))
        assert isinstance(network.to_real, torch.nn.Linear)
        fit_head(network.to_real, self.features[:labels], few.true, self.seed)
        if decoder == "head":
            about = self._about(labels, names=few.names)
            return Agent(
                replace(about, policy=network.config), network, self.mapper("dictionary", labels)
            )
        slower = replace(self.config, learning_rate=FINETUNED_RATE * self.config.learning_rate)
        slower = for_labels(slower, labels)
        fit_policy(network, network.to_real, few, few.true, slower, self.seed)
        return real_agent(network, few.names, labels)

    def mapper(self, kind: Kind, labels: int) -> ActionMapper:
        """Returns a mapper made from some of the steps."""
        few = self.pool.take(torch.arange(labels))
        return fit_mapper(few.pairs(), kind, self.latent_actions, self.seed)

    def _mapped(self, kind: Kind, labels: int) -> Agent:
        size = replace(self.policy.config, real_actions=0)
        network = _with_heads_of(self.policy, PolicyNetwork(size))
        return Agent(self._about(labels), network, self.mapper(kind, labels))

    def _about(self, labels: int, names: tuple[str, ...] = ()) -> AgentConfig:
        size = replace(self.policy.config, real_actions=len(names))
        return AgentConfig(size, names, self.latent_actions, "genie agent clone", labels)


def from_labels_alone(pool: ExpertSteps, labels: int, config: CloneConfig, seed: int = 0) -> Agent:
    """Returns an agent cloned from labelled steps only, by a network of the same size."""
    few, store = pool.take(torch.arange(labels)), pool.store
    torch.manual_seed(seed)
    network = PolicyNetwork(config.network(store.height, store.width, 0, len(pool.names)))
    fit_policy(network, network.to_real, few, few.true, for_labels(config, labels), seed)
    return real_agent(network, pool.names, labels)


def for_labels(config: CloneConfig, labels: int) -> CloneConfig:
    """Returns the training on so many labelled steps: a fifth held back, forty epochs at most."""
    steps = min(config.steps, max(100, 40 * labels // config.batch))
    return replace(config, steps=steps, held_back=0.2)


def real_agent(network: PolicyNetwork, names: tuple[str, ...], labels: int) -> Agent:
    """Returns an agent that rates real actions only."""
    size = replace(network.config, latent_actions=0)
    own = _with_heads_of(network, PolicyNetwork(size))
    return Agent(AgentConfig(size, names, made_by="genie agent clone", labels=labels), own)


def _with_heads_of(source: PolicyNetwork, target: PolicyNetwork) -> PolicyNetwork:
    """Copies all weights that the target has."""
    kept = target.state_dict().keys()
    weights = {name: value for name, value in source.state_dict().items() if name in kept}
    target.load_state_dict(weights)
    return target.requires_grad_(False).eval()
