"""A run that trains some stages, with the earlier ones of a trained world."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import genie
from genie.presets.schedule import TrainConfig
from genie.training import config
from genie.training.checkpointing import write_checkpoint
from genie.world.config import GenieConfig


def begin(
    out: Path,
    store: genie.ClipStore,
    world: GenieConfig,
    schedule: TrainConfig,
    stages: Sequence[str],
    seed: int,
    base: str,
) -> None:
    """Makes a run folder, unless it is there, as if the stages before `stages` had run in it.

    What comes after depends on what is trained, so it is not taken from the base.
    """
    if config.read(out) is not None:
        return
    settings = config.resolve(
        out, store, world=world, train=schedule, stages=stages, seed=seed, device="cpu"
    )
    trained = genie.Genie.from_pretrained(base, device="cpu")
    earlier = config.STAGES[: config.STAGES.index(stages[0])]
    out.mkdir(parents=True, exist_ok=True)
    config.write(out, settings)
    for stage in earlier:
        state = getattr(trained, stage).state_dict()
        write_checkpoint(out / "checkpoints" / f"{stage}.ckpt", {"average": state})
