"""Between the actions of the real game, which have names, and the latent actions of a world.

A mapper is a folder beside the world, `WORLD/mapper`: `config.json` and `model.safetensors`. It
holds the hash of the world's latent actions. `genie map` makes one from a few labelled steps.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from genie.core.config import UserError, from_record, require, shown, to_dict
from genie.models.action_predictor import ActionPredictor
from genie.world import inputs
from genie.world.checkpoint import Part
from genie.world.hub import world_folder

if TYPE_CHECKING:
    from genie.world.genie import Genie

FOLDER = "mapper"
"""Of a mapper, inside the folder of its world."""
PART = Part("a mapper", "genie map", "genie-mapper", version=2)
SYNONYMS = {"jump": "up", "none": "noop", "nothing": "noop", "stand": "noop", "wait": "noop"}
"""Words that people say for words in the names of actions."""
SMOOTHING = 1.0
"""Labels that the overall frequencies count for in each row of a smoothed table."""

log = logging.getLogger(__name__)
Kind = Literal["dictionary", "network"]
RealActions = str | int | Sequence[str] | Sequence[int] | np.ndarray | Tensor
"""Real actions by name or number, one or one for each frame."""


@dataclass(frozen=True)
class MapperConfig:
    """What a mapper is, as its `config.json` says.

    Attributes:
        kind: "dictionary" counts which actions occur together. "network" also sees the frame.
        action_names: names of the real actions, in the order of their numbers.
        num_actions: A, the number of latent actions.
        latent_actions: hash of those of its world, see `latent_actions_hash`.
        labels: labelled steps that it was made from.
        width: channels of the first layer of a network.
    """

    kind: Kind
    action_names: tuple[str, ...]
    num_actions: int
    latent_actions: str
    labels: int
    width: int = 16

    def __post_init__(self) -> None:
        """Refuses sizes that no mapper has."""
        inside = 1 <= self.num_actions <= 4096 and 1 <= len(self.action_names) <= 1024
        require(inside, "num_actions, action_names: expected from 1 to 4096 and from 1 to 1024")
        require(1 <= self.width <= 1024, "width: expected from 1 to 1024")


def latent_actions_hash(world: Genie) -> str:
    """Returns the SHA-256 of a world's latent action model, in hexadecimal.

    Latent actions mean the same in all worlds with this model. The tokenizer, the dynamics and the
    sampling may be others. The hash is the same for a world in bfloat16.
    """
    config = world.config
    about = (config.height, config.width, config.num_actions, config.actions.downsample)
    digest = hashlib.sha256(repr(about).encode())
    for name, weight in sorted(world.actions.state_dict().items()):
        rounded = weight.to("cpu", torch.bfloat16 if weight.is_floating_point() else weight.dtype)
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(rounded.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class ActionMapper(nn.Module):
    """Maps real actions to latent ones and back. `dictionary` is the kind without networks.

    The dictionary is that of the paper (Bruce et al. 2024, appendix E): for each latent action the
    real ones that labelled steps have beside it. The networks see the frame as well, as in LAPO
    (Schmidt and Jiang 2023, arXiv 2312.10812).

    Args:
        config: what it is.

    Attributes:
        counts: (A, K), how many labelled steps have each latent beside each real action.
    """

    counts: Tensor

    def __init__(self, config: MapperConfig):
        super().__init__()
        self.config = config
        shape = config.num_actions, len(config.action_names)
        self.register_buffer("counts", torch.zeros(shape, dtype=torch.int64))
        if config.kind == "network":
            even = torch.full(shape, 1 / shape[1]), torch.full(shape[::-1], 1 / shape[0])
            self.real_predictor, self.latent_predictor = (
                ActionPredictor(table, width=config.width) for table in even
            )

    @property
    def names(self) -> list[str]:
        """Names of the real actions."""
        return list(self.config.action_names)

    @property
    def labelled_names(self) -> list[str]:
        """Names of the real actions that occur in the labelled steps."""
        return [self.names[action] for action in self.labelled_actions.tolist()]

    @property
    def labelled_actions(self) -> Int[Tensor, " n"]:
        """Numbers of the real actions that occur in the labelled steps."""
        return self.counts.sum(0).nonzero()[:, 0]

    # -- files ------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls, name: str | Path, world: Genie | None = None, **hub: Any
    ) -> ActionMapper:
        """Loads a mapper.

        Args:
            name: folder of the mapper, or a world that has one: its folder, its id on the Hugging
                Face Hub or its name in the package.
            world: that it is used with. None does not check that it is the mapper's own.
            hub: passed to `huggingface_hub.snapshot_download`.

        Raises:
            UserError: there is no mapper, it is damaged, or it belongs to another world.
        """
        folder = world_folder(name, **hub)
        folder = folder / FOLDER if (folder / FOLDER).is_dir() else folder
        mapper = cls(from_record(MapperConfig, PART.read_config(folder)))
        PART.load(folder, mapper)
        if world is not None:
            mapper.require_world(world)
        return mapper.eval().requires_grad_(False)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes `config.json` and `model.safetensors` into a folder.

        Raises:
            UserError: the folder cannot be written; what was there is kept.
        """
        PART.write(Path(folder), to_dict(self.config), self.state_dict())

    def require_world(self, world: Genie) -> None:
        """Raises `UserError` for a world that is not the mapper's own."""
        require(
            latent_actions_hash(world) == self.config.latent_actions,
            "this mapper was made for other latent actions: of another world, or of another "
            "training of them; make one with `genie map` for this world",
        )

    # -- names ------------------------------------------------------------------------------------

    def index_of(self, name: str) -> int:
        """Returns the number of a real action.

        Args:
            name: as in `names`. Order and marks between its parts do not matter, and "jump" is
                "up": "jump-right" is "right+up".

        Raises:
            UserError: the game has no such action, or no labelled step has it.
        """
        parts = _parts(name)
        found = [index for index, known in enumerate(self.names) if _parts(known) == parts]
        exact = [index for index in found if self.names[index] == name]
        known = f"this world knows {', '.join(self.labelled_names)}"
        require(len(found) > 0, f"actions: no action is called {shown(name)}; {known}")
        index = (exact or found)[0]
        seen = int(self.counts[:, index].sum()) > 0
        require(seen, f"actions: no labelled step has the action {shown(name)}; {known}")
        return index

    def indices_of(self, actions: RealActions, count: int) -> Int[Tensor, " b"]:
        """Returns the numbers of real actions, one for each of `count` frames.

        Args:
            actions: one for all frames, or one for each, by name or number.
            count: how many frames.

        Raises:
            UserError: an action does not exist.
        """
        if isinstance(actions, str):
            actions = self.index_of(actions)
        elif isinstance(actions, list | tuple) and all(isinstance(a, str) for a in actions):
            actions = [self.index_of(str(name)) for name in actions]
        return torch.from_numpy(inputs.check_actions(actions, len(self.names), count))

    # -- mapping ----------------------------------------------------------------------------------

    @torch.no_grad()
    def real_probabilities(
        self, frames: UInt8[Tensor, "b h w 3"], latents: Int[Tensor, " b"]
    ) -> Float[Tensor, "b k"]:
        """Returns how likely each real action is, for latent actions at frames."""
        if self.config.kind == "network":
            return self.real_predictor(frames[:, None], latents).softmax(-1)
        return row_shares(self.counts)[latents]

    @torch.no_grad()
    def latent_probabilities(
        self, frames: UInt8[Tensor, "b h w 3"], actions: Int[Tensor, " b"]
    ) -> Float[Tensor, "b a"]:
        """Returns how likely each latent action is, for real actions at frames."""
        return self._latents_of_all(frames)[torch.arange(len(frames)), actions]

    @torch.no_grad()
    def reals_of_all(self, frames: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b a k"]:
        """Returns how likely each real action is for each latent one at frames."""
        if self.config.kind == "network":
            return self.real_predictor.for_all(frames[:, None]).softmax(-1)
        return row_shares(self.counts).expand(len(frames), -1, -1)

    def _latents_of_all(self, frames: Tensor) -> Float[Tensor, "b k a"]:
        """How likely each latent action is for each real one at frames."""
        if self.config.kind == "network":
            return self.latent_predictor.for_all(frames[:, None]).softmax(-1)
        return row_shares(self.counts.T).expand(len(frames), -1, -1)

    @torch.no_grad()
    def distinct_latents(self, frames: UInt8[Tensor, "b h w 3"]) -> Int[Tensor, "b k"]:
        """Returns the latent action of each real one: the one that it makes likelier by most."""
        every = self._latents_of_all(frames)
        share = self.counts.sum(0).float() / self.counts.sum().clamp_min(1)
        # A real action that is like all of them, or unknown, gets its likeliest latent action.
        return (every - torch.einsum("k,bka->ba", share, every)[:, None] + 1e-4 * every).argmax(-1)

    def to_real(
        self, frames: Any, latents: Any, rng: np.random.Generator | None = None
    ) -> int | np.ndarray:
        """Returns the real action for a latent one: acts in the real game.

        Args:
            frames: what the game shows, (H, W, 3) or (B, H, W, 3) uint8.
            latents: a latent action, or one for each frame.
            rng: samples in proportion to the probabilities, as the paper does. None takes the
                likeliest.

        Returns:
            Numbers of real actions, an int for one frame and int64 (B,) for several.

        Raises:
            UserError: a latent action does not exist.
        """
        batch, single = _batch(frames)
        given = torch.from_numpy(inputs.check_actions(latents, self.config.num_actions, len(batch)))
        return _chosen(self.real_probabilities(batch, given), rng, single)

    def to_latent(
        self, frames: Any, actions: RealActions, rng: np.random.Generator | None = None
    ) -> int | np.ndarray:
        """Returns the latent action for a real one: plays the world by names.

        Args:
            frames: what the world shows, (H, W, 3) or (B, H, W, 3) uint8.
            actions: a real action, or one for each frame, by name or number. A number without any
                labelled step has no name to it: a dictionary gives it the commonest latent action,
                a network any.
            rng: samples in proportion to the probabilities. None takes the latent action whose
                probability the real one raises most. The likeliest one is often common to all real
                actions, and then they would do the same.

        Returns:
            Latent actions, an int for one frame and int64 (B,) for several.

        Raises:
            UserError: an action does not exist, or a name has no labelled step.
        """
        batch, single = _batch(frames)
        given = self.indices_of(actions, len(batch))
        if rng is not None:
            return _chosen(self.latent_probabilities(batch, given), rng, single)
        latents = self.distinct_latents(batch)[torch.arange(len(batch)), given].numpy()
        return int(latents[0]) if single else latents

    def to_played(self, frames: UInt8[Tensor, "b h w 3"], actions: Sequence[int]) -> list[int]:
        """Returns the latent actions that players' actions play, some of which are real ones.

        Args:
            frames: what each player sees.
            actions: a latent action each, or A + n for the real action `labelled_names[n]`.
        """
        played = torch.tensor(actions)
        real = played >= self.config.num_actions
        if real.any():
            wanted = self.labelled_actions[played[real] - self.config.num_actions]
            played[real] = torch.from_numpy(self.to_latent(frames.cpu()[real], wanted))
        return played.tolist()


def read_mapper(folder: Path | None, world: Genie) -> ActionMapper | None:
    """Returns the mapper in a world's folder; None if there is no valid one of this world."""
    if folder is None or not (folder / FOLDER).is_dir():
        return None
    try:
        return ActionMapper.from_pretrained(folder, world)
    except UserError as error:
        log.warning("%s is ignored: %s", folder / FOLDER, error)
        return None


def row_shares(counts: Int[Tensor, "g k"]) -> Float[Tensor, "g k"]:
    """Returns each row as shares; a row of zeros gets the shares of all rows together."""
    every = counts.sum(0, keepdim=True).expand_as(counts)
    known = counts.sum(1, keepdim=True) > 0
    return F.normalize(torch.where(known, counts, every).float(), p=1, dim=1)


def smoothed_shares(counts: Int[Tensor, "g k"]) -> Float[Tensor, "g k"]:
    """Returns each row as shares, with a little of all rows together, so that none is zero."""
    every = counts.sum(0) + 0.1
    rows = counts + SMOOTHING * every / every.sum()
    return rows / rows.sum(1, keepdim=True)


def _parts(name: str) -> frozenset[str]:
    words = re.split(r"[\s+_-]+", name.strip().lower())
    return frozenset(SYNONYMS.get(word, word) for word in words)


def _batch(frames: Any) -> tuple[UInt8[Tensor, "b h w 3"], bool]:
    tensor = torch.as_tensor(np.asarray(frames) if not isinstance(frames, Tensor) else frames).cpu()
    right = tensor.dtype == torch.uint8 and tensor.ndim in (3, 4) and tensor.shape[-1] == 3
    given = f"{tensor.dtype} {tuple(tensor.shape)}"
    require(right, f"frames: expected uint8 (H, W, 3) or (B, H, W, 3), got {given}")
    return (tensor[None], True) if tensor.ndim == 3 else (tensor, False)


def _chosen(
    probabilities: Float[Tensor, "b n"], rng: np.random.Generator | None, single: bool
) -> int | np.ndarray:
    if rng is None:
        chosen = probabilities.argmax(-1).numpy()
    else:
        ends = probabilities.double().cumsum(-1).numpy()
        sampled = rng.random(len(ends))[:, None] * ends[:, -1:]
        chosen = (ends <= sampled).sum(-1)
    return int(chosen[0]) if single else chosen


def parse_actions(
    text: str, num_actions: int, most: int, mapper: ActionMapper | None = None
) -> list[int] | list[str]:
    """Reads actions such as "1,1,2,0", or "left,left,jump" where there is a mapper.

    Args:
        text: as `genie.world.inputs.parse_actions` reads it.
        num_actions: A, of the world.
        most: actions that there may be.
        mapper: that knows the names.

    Raises:
        UserError: the text is not a list of the world's actions, or has more than `most`.
    """
    actions = inputs.parse_actions(text)
    require(len(actions) <= most, f"actions: {len(actions)} are too many, at most {most}")
    if isinstance(actions[0], str):
        if mapper is None:
            raise UserError("actions: names need a mapper; give numbers such as 1,1,2,0")
        mapper.indices_of(actions, len(actions))
    else:
        inputs.check_range(np.array(actions, object), num_actions, "actions")
    return actions
