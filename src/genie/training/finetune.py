"""Going on from a world that is there: which settings may differ, and wider vocabularies."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genie.core.config import UserError, from_record, require, to_dict
from genie.data.store import ClipStore
from genie.models.latent_actions.base import LatentActionModel
from genie.models.layers.kmeans import kmeans_plus_plus, lloyd
from genie.models.quantizers.registry import KINDS
from genie.models.quantizers.vq import KMEANS_ITERATIONS, VectorQuantizer
from genie.models.tokenizer_losses.config import ExtraLosses
from genie.presets.schedule import StageConfig, TrainConfig
from genie.training.previews import spread_clips
from genie.world import checkpoint, weight_files
from genie.world.config import GenieConfig
from genie.world.genie import Genie
from genie.world.hub import world_folder

START = "start"
"""Folder, in a run folder, of the world that the run began with."""

WARMUP_STEPS = 100
"""Longest warm-up of a model that is trained already."""

LR_FACTOR = 4
"""By how much its learning rate is lower, though never below the rate at which training ended."""

FAR_DISTANCE = 10.0
"""How much longer than any feature the vector of a code is that is not to be used yet."""

NOISE = 0.1
"""Noise on a new row of an embedding, as a share of the spread of the old ones."""

SEEN_CLIPS = 256
"""Clips whose steps say where latent actions are added."""

# What a fine-tuned world may have otherwise: how it is played, what it is trained for, and sizes
# that grow. All else decides what the weights mean.
MAY_DIFFER = {
    "fps",
    "num_actions",
    "tokenizer.quantizer.codes",
    *(f"tokenizer.{name}" for name in ("l2_weight", "l1_weight", "motion_weight")),
    *(f"tokenizer.extra_losses.{field.name}" for field in fields(ExtraLosses)),
    *(
        f"actions.{name}"
        for name in (
            "continuous_fraction",
            "latent_noise",
            "embedding_noise",
            "entropy_weight",
            "smoothness_weight",
            "consistency_weight",
            "motion_weight",
            "commitment_weight",
            "ema_decay",
        )
    ),
    *(
        f"dynamics.{name}"
        for name in (
            "mask_ratio",
            "context_corruption",
            "changed_token_weight",
            "static_action_dropout",
            "action_dropout",
            "unconditional_fraction",
            "own_context",
            "own_context_passes",
            "label_smoothing",
            "multiscale_weight",
            "diversity_weight",
        )
    ),
}


@dataclass(frozen=True)
class BaseWorld:
    """The world that a run goes on from.

    Attributes:
        name: its folder, its id on the Hugging Face Hub or its name, as it was given.
        weights: the first twelve hexadecimal digits of the SHA-256 of its weights.
        keep_actions: whether its latent actions stay as they are, so that they keep their
            meaning, or are trained on, and their codes placed anew.
    """

    name: str
    weights: str = ""
    keep_actions: bool = True


def open_base_world(name: str, keep_actions: bool) -> BaseWorld:
    """Returns which world a new run goes on from.

    Raises:
        UserError: there is no such world, it is damaged, or it is of another version.
    """
    folder = world_folder(name)
    checkpoint.read_config(folder)
    checkpoint.read_shapes(folder)  # a damaged file may claim more bytes than can be hashed
    return BaseWorld(name, weight_files.digest_of(folder)[:12], keep_actions)


def config_of(name: str | Path) -> GenieConfig:
    """Returns the configuration of a world."""
    return from_record(GenieConfig, checkpoint.read_config(world_folder(name)))


def schedule_of(name: str | Path, record: str) -> TrainConfig | None:
    """Returns the schedule to go on with after the one a world was trained with.

    Args:
        name: of the world.
        record: file in a run folder in which the schedule stands.

    Returns:
        The schedule; None for a world without such a file.

    Raises:
        UserError: the file cannot be read.
    """
    path = world_folder(name) / record
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text())
        train = from_record(TrainConfig, values["train"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: its schedule cannot be read ({error}); name one with --preset"
        ) from None
    # It may have been trained on another machine.
    train = replace(train, accelerator="auto", devices="auto")
    return train if values.get("base") else finetune_schedule(train)


def finetune_schedule(train: TrainConfig) -> TrainConfig:
    """Returns a schedule for models that are trained already, one stage after the other.

    Learning rates are lower and warm-ups short: enough to learn, too little to forget.
    """

    def gentle(stage: StageConfig) -> StageConfig:
        if not stage.in_worlds:
            return stage
        rate = max(stage.learning_rate / LR_FACTOR, stage.final_learning_rate)
        steps = min(stage.warmup_steps, WARMUP_STEPS)
        return replace(stage, learning_rate=rate, warmup_steps=steps)

    stages = {name: gentle(stage) for name, stage in train.stages.items()}
    return replace(train, joint=False, **stages)  # type: ignore[arg-type]


def check_fits(name: str, old: GenieConfig, new: GenieConfig) -> None:
    """Checks that the weights of one configuration mean the same in another.

    Raises:
        UserError: they do not; the message says what to leave out.
    """
    before, now = flat(to_dict(old)), flat(to_dict(new))
    may_differ = MAY_DIFFER | {
        f"tokenizer.quantizer.{name}" for name in old.tokenizer.quantizer.only_in_training
    }
    for side in ("height", "width"):
        require(
            before[side] == now[side],
            f"{side}: {now[side]}, but the world {name} has frames of {old.width}x{old.height}; "
            "leave the option out, and prepare the videos with: genie prepare VIDEOS --out DATA "
            f"--height {old.height} --width {old.width}",
        )
    for key in before:
        require(
            before[key] == now[key] or key in may_differ or key.startswith("sampling."),
            f"{key}: {now[key]!r}, but the world {name} has {before[key]!r} and its weights only "
            "fit that; leave the option out, or train a new world without --from",
        )
    for key in ("num_actions", "tokenizer.quantizer.codes"):
        require(
            now[key] >= before[key],
            f"{key}: {now[key]}, but the world {name} has {before[key]}, and a vocabulary can "
            f"only be kept or widened; take {before[key]} or more",
        )
    require(
        new.num_actions == old.num_actions or not old.actions.lfq_codebooks,
        f"num_actions: the actions of LFQ are bits, and with more bits each would mean something "
        f"else; keep {old.num_actions}",
    )
    quantizer = old.tokenizer.quantizer
    growing = " or ".join(kind for kind, cls in KINDS.items() if cls.can_grow)
    require(
        quantizer.can_grow or new.tokenizer.quantizer.codes == quantizer.codes,
        f"tokenizer.quantizer.codes: the vocabulary of {quantizer.kind} is a grid, and with more "
        f"points every code would mean something else; keep {quantizer.codes}, or train a new "
        f"world without --from, with tokenizer.quantizer.kind {growing} if it is to grow later",
    )


def starting_world(base: BaseWorld, config: GenieConfig, store: ClipStore, frames: int) -> Genie:
    """Returns the world that a run begins with: the weights of the base, with wider vocabularies.

    Latent actions that are added to kept ones get codes where steps of the new videos lie that
    none of the kept ones is near. Otherwise new codes are out of the way and come into use, or are
    placed, when the stage trains.

    Args:
        base: where the weights are from.
        config: what the world is to have.
        store: the new videos.
        frames: length of the clips that latent actions are inferred from.

    Raises:
        UserError: the base cannot be loaded, or has no latent actions to keep.
    """
    old = Genie.from_pretrained(base.name, device="cpu")
    world = with_larger_vocabularies(old, config)
    quantizer = world.actions.quantizer
    if not base.keep_actions:
        quantizer.reset_codebook()
        return world
    require(
        quantizer.initialized,
        f"{base.name}: its latent actions have no codes to keep; train them with "
        "--keep_actions false",
    )
    kept = old.config.num_actions
    if config.num_actions > kept:
        assert isinstance(quantizer, VectorQuantizer)  # `check_fits` refuses others
        seen = _latents(world.actions, store, frames)
        quantizer.codebook[kept:] = _new_centres(
            seen, quantizer.codebook[:kept], len(quantizer.codebook)
        )
        fair = quantizer.usage[:kept].mean()
        quantizer.usage[kept:] = fair
        quantizer.sums[kept:] = quantizer.codebook[kept:] * fair
    return world


@torch.no_grad()
def with_larger_vocabularies(old: Genie, config: GenieConfig) -> Genie:
    """Returns a world of another configuration with the weights of `old`, its rows unchanged.

    Tokens and actions that are new start near the mean of the old ones wherever they are embedded
    or predicted. Logits of old tokens do not change, and no frame is encoded into a new token.

    Args:
        old: the world.
        config: as `check_fits` allows.
    """
    generator = torch.Generator().manual_seed(0)
    world = Genie(config)
    weights = world.state_dict()
    for name, value in old.state_dict().items():
        if value.shape != weights[name].shape:
            value = _extend_rows(name, value, len(weights[name]) - len(value), generator)
        weights[name] = value
    world.load_state_dict(weights)
    return world.eval()


def _extend_rows(name: str, rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    shape = (count, *rows.shape[1:])
    leaf = name.rpartition(".")[2]
    if leaf == "recent":  # the oldest come first, and zeros are not counted
        return torch.cat([rows.new_zeros(shape), rows])
    if leaf == "codebook":
        return torch.cat([rows, rows.new_full(shape, FAR_DISTANCE)])
    if leaf in ("usage", "sums"):
        return torch.cat([rows, rows.new_zeros(shape)])
    # The last row of an embedding is the mask, or "no action known"; a head has no such row.
    known = rows if name.startswith("dynamics.head.linear") else rows[:-1]
    noise = torch.randn(shape, generator=generator).to(rows)
    new = known.mean(dim=0) + NOISE * known.std(dim=0) * noise
    return torch.cat([known, new, rows[len(known) :]])


@torch.no_grad()
def _latents(actions: LatentActionModel, store: ClipStore, frames: int) -> Tensor:
    """Normalised latents (n, dim) of the steps of some training clips."""
    clips = spread_clips(store, frames, SEEN_CLIPS, "train").split(16)
    return torch.cat([actions.latents(part).flatten(0, 1) for part in clips])


def _new_centres(points: Tensor, kept: Tensor, size: int) -> Tensor:
    """Centres that k-means adds to `kept` ones, which stay, to make `size` in all."""
    centres = kmeans_plus_plus(points, kept, size, torch.Generator().manual_seed(0))
    return lloyd(points, centres, KMEANS_ITERATIONS, fixed=len(kept))[len(kept) :]


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= (
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return found
