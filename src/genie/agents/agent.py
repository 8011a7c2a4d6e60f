"""An agent: a policy over the last frames, as a folder that can be shared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from genie.core.config import UserError, from_record, require, to_dict
from genie.core.io import replacing
from genie.data.video import Resizer
from genie.models.policy_network import PolicyNetwork, PolicyNetworkConfig
from genie.world.action_mapper import FOLDER, ActionMapper, latent_actions_hash
from genie.world.checkpoint import Part

if TYPE_CHECKING:
    from genie.world.genie import Genie

PART = Part("an agent", "genie agent clone", "genie-agent", weights="policy.safetensors")
CARD = "README.md"
Space = Literal["latent", "real"]


@dataclass(frozen=True)
class AgentConfig:
    """What an agent is, as its `config.json` says.

    Attributes:
        policy: size of the network.
        action_names: names of the real actions that the network rates, in the order of their
            numbers. Without any, a mapper names them.
        latent_actions: hash of the latent action model whose actions the network rates, see
            `genie.world.action_mapper`; "" if it rates real actions only.
        made_by: the command that made it.
        labels: labelled steps that it was made from.
    """

    policy: PolicyNetworkConfig
    action_names: tuple[str, ...] = ()
    latent_actions: str = ""
    made_by: str = ""
    labels: int = 0

    def __post_init__(self) -> None:
        """Refuses names for other actions than there are."""
        named, rated = len(self.action_names), self.policy.real_actions
        require(named == rated, f"action_names: {named} names for {rated} real actions")


class Agent:
    """Chooses actions from the last frames: latent ones for a world, real ones for its game.

    Real actions come from the network itself if it rates them. Otherwise they come from its latent
    actions by a mapper, as in the paper (Bruce et al. 2024, appendix E).

    Args:
        config: what it is.
        policy: the network; a new one if left out.
        mapper: names the real actions of latent ones.

    Raises:
        UserError: the mapper is for another number of latent actions.
    """

    def __init__(
        self,
        config: AgentConfig,
        policy: PolicyNetwork | None = None,
        mapper: ActionMapper | None = None,
    ):
        self.config, self.mapper = config, mapper
        self.policy = policy if policy is not None else PolicyNetwork(config.policy)
        rated = config.policy.latent_actions
        right = mapper is None or mapper.config.num_actions == rated
        require(right, f"the mapper is not for {rated} latent actions, which this agent has")

    @property
    def action_names(self) -> list[str]:
        """Names of the real actions; none if it knows latent ones only."""
        if self.config.action_names:
            return list(self.config.action_names)
        return self.mapper.names if self.mapper is not None else []

    @property
    def space(self) -> Space:
        """The actions that it chooses if it is not told which."""
        return "real" if self.action_names else "latent"

    # -- files ------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, folder: str | Path, world: Genie | None = None) -> Agent:
        """Loads an agent.

        Args:
            folder: of the agent.
            world: that it acts in. None does not check that the latent actions are the same.

        Raises:
            UserError: there is no agent, it is damaged, or it is for another world.
        """
        folder = Path(folder)
        require(folder.is_dir(), f"{folder}: there is no such folder of an agent")
        config = from_record(AgentConfig, PART.read_config(folder))
        mapper = folder / FOLDER
        known = ActionMapper.from_pretrained(mapper) if mapper.is_dir() else None
        agent = cls(config, mapper=known)
        PART.load(folder, agent.policy)
        agent.policy.eval().requires_grad_(False)
        if world is not None:
            agent.require_world(world)
        return agent

    def save_pretrained(self, folder: str | Path, figures: Sequence[str] = ()) -> None:
        """Writes `config.json`, `policy.safetensors`, a card and the mapper, if there is one.

        Args:
            folder: made if it does not exist.
            figures: lines of Markdown for the card.

        Raises:
            UserError: the folder cannot be written; what was there is kept.
        """
        folder = Path(folder)
        PART.write(folder, to_dict(self.config), self.policy.state_dict())
        if self.mapper is not None:
            self.mapper.save_pretrained(folder / FOLDER)
        try:
            with replacing(folder / CARD) as path:
                path.write_text(_card(self, folder.name, figures), "utf-8")
        except OSError as error:
            raise UserError(f"cannot write {PART.what} to {folder}: {error}") from error

    def require_world(self, world: Genie) -> None:
        """Raises `UserError` for a world with other latent actions than the agent's."""
        same = self.config.latent_actions == latent_actions_hash(world)
        require(
            same,
            "this agent was made for another world's latent actions; make one for this world with "
            "`genie agent clone`",
        )

    # -- acting -----------------------------------------------------------------------------------

    @torch.no_grad()
    def probabilities(self, frames: Any, space: Space | None = None) -> Float[Tensor, "b n"]:
        """Returns how likely it takes each action.

        Args:
            frames: the last frames of one game, uint8 (T, H, W, 3), or of several, (B, T, H, W, 3).
                Before the first of fewer than it sees, that one is repeated.
            space: "latent" or "real"; `self.space` if left out.

        Raises:
            UserError: frames of another size, or actions that it does not know.
        """
        stacks, _ = self._stacks(frames)
        return self._probabilities(stacks, self._known(space))

    def act(
        self, frames: Any, rng: np.random.Generator | int | None = None, space: Space | None = None
    ) -> int | np.ndarray:
        """Returns an action for each game.

        Args:
            frames: as of `probabilities`.
            rng: a generator or a seed, which samples in proportion, as the paper does. None takes
                the likeliest.
            space: "latent" or "real"; `self.space` if left out.

        Returns:
            An int for one game, int64 (B,) for several.

        Raises:
            UserError: as of `probabilities`.
        """
        stacks, single = self._stacks(frames)
        chosen = sampled(self.probabilities(stacks, space), rng)
        return int(chosen[0]) if single else chosen

    def _probabilities(self, stacks: Tensor, space: Space) -> Tensor:
        features = self.policy.features(stacks)
        if space == "real" and self.config.policy.real_actions:
            return self.policy.to_real(features).softmax(-1)
        latent = self.policy.to_latent(features).softmax(-1)
        if space == "latent":
            return latent
        assert self.mapper is not None
        return torch.einsum("ba,bak->bk", latent, self.mapper.reals_of_all(stacks[:, -1]))

    def _known(self, space: Space | None) -> Space:
        space = space or self.space
        if space == "latent":
            known = self.config.policy.latent_actions > 0
            require(known, "this agent knows real actions only; it cannot act in a world")
        else:
            require(
                bool(self.action_names), "this agent knows latent actions only; it needs a mapper"
            )
        return space

    def _stacks(self, frames: Any) -> tuple[UInt8[Tensor, "b t h w 3"], bool]:
        tensor = frames if isinstance(frames, Tensor) else torch.as_tensor(np.asarray(frames))
        tensor, size = tensor.cpu(), self.config.policy
        right = tensor.dtype == torch.uint8 and tensor.ndim in (4, 5) and tensor.shape[-4] > 0
        wanted = f"uint8 (T, {size.height}, {size.width}, 3) or (B, T, ...)"
        right = right and tensor.shape[-3:] == (size.height, size.width, 3)
        require(right, f"frames: expected {wanted}, got {tensor.dtype} {tuple(tensor.shape)}")
        single = tensor.ndim == 4
        return last_frames(tensor[None] if single else tensor, size.frames), single


def last_frames(frames: UInt8[Tensor, "b t h w 3"], count: int) -> UInt8[Tensor, "b n h w 3"]:
    """Returns the last `count` frames; the first is repeated where there are fewer."""
    missing = count - frames.shape[1]
    if missing <= 0:
        return frames[:, -count:]
    return torch.cat([frames[:, :1].expand(-1, missing, -1, -1, -1), frames], dim=1)


def sampled(
    probabilities: Float[Tensor, "b n"], rng: np.random.Generator | int | None
) -> np.ndarray:
    """Returns the likeliest of each row, or samples from it; int64 (B,)."""
    if rng is None:
        return probabilities.argmax(-1).numpy()
    ends = probabilities.double().cumsum(-1).numpy()
    chosen = np.random.default_rng(rng).random(len(ends))[:, None] * ends[:, -1:]
    return (ends <= chosen).sum(-1)


class AgentPlayer:
    """Plays games by an agent: keeps the last frames of each, scaled to the agent's size.

    Args:
        agent: that plays.
        seed: of the sampling; None takes the likeliest action.
        space: "latent" or "real"; the agent's own if left out.
    """

    def __init__(self, agent: Agent, seed: int | None = 0, space: Space | None = None):
        self._agent = agent
        self._space: Space | None = space
        self._rng = None if seed is None else np.random.default_rng([seed, 20])
        self._seen = dict[int, np.ndarray]()
        self._resize = Resizer(agent.config.policy.height, agent.config.policy.width)

    def __call__(self, frames: np.ndarray, games: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Returns an action for each game.

        Args:
            frames: u8 (N,H,W,3), what some games show.
            games: their numbers (N,).
            first: bool (N,), which have just begun.
        """
        shown = zip(self._resize(frames), games.tolist(), first, strict=True)
        stacks = [self._stack(*one) for one in shown]
        return np.asarray(self._agent.act(np.stack(stacks), self._rng, self._space))

    def _stack(self, frame: np.ndarray, game: int, first: np.bool_) -> np.ndarray:
        count = self._agent.config.policy.frames
        if first or game not in self._seen:
            self._seen[game] = np.repeat(frame[None], count, axis=0)
        else:
            self._seen[game] = np.concatenate([self._seen[game][1:], frame[None]])
        return self._seen[game]


def _card(agent: Agent, name: str, figures: Sequence[str]) -> str:
    config = agent.config
    made = f"It was made by `{config.made_by}` from {config.labels:,} labelled steps."
    spaces = {
        "latent": f"{config.policy.latent_actions} latent actions of a world",
        "real": f"the real actions {', '.join(f'`{name}`' for name in agent.action_names)}",
    }
    known = [text for space, text in spaces.items() if agent.space == space or space == "latent"]
    lines = [
        f"# {name}",
        f"An agent. It sees the last {config.policy.frames} frames of "
        f"{config.policy.width}x{config.policy.height} pixels and chooses {' or '.join(known)}.",
        *([made] if config.made_by else []),
        "```python\n"
        "from genie import Agent\n\n"
        f'agent = Agent.from_pretrained("{name}")\n'
        "action = agent.act(frames)  # uint8 (T, H, W, 3), the newest last\n```",
        *figures,
    ]
    return "\n\n".join(lines) + "\n"
