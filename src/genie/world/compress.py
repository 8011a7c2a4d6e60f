"""A world with matrices of 8 bits, about a quarter of the size of one in float32."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from genie.core.config import require
from genie.world.action_mapper import FOLDER, ActionMapper, latent_actions_hash, read_mapper
from genie.world.checkpoint import is_rounded
from genie.world.genie import Genie
from genie.world.hub import copy_companions, world_folder

REWARD = "reward/*"


def compress(name: str | Path, out: str | Path) -> Path:
    """Writes a world with rounded matrices (`genie.world.rounding`) into another folder.

    Tokens and frames change a little, so it is another world: replays of the first one are not of
    it. Frames keep their latent actions bit by bit. So prompts, the names and groups of actions and
    the mapper go along. Reward heads do not, because they read features of the dynamics.

    Args:
        name: folder of the world, its id on the Hugging Face Hub or its name in the package.
        out: folder to write, without a world.

    Returns:
        The folder.

    Raises:
        UserError: there is no such world, it is rounded already, its latent actions read tokens, or
            the folder has a world.
    """
    folder, out = world_folder(name), Path(out)
    require(not any(out.glob("*")), f"{out}: is not empty; name another folder")
    require(not is_rounded(folder), f"{folder}: has matrices of 8 bits already")
    world = Genie.from_pretrained(folder, device="cpu")
    require(
        not world.actions.reads,
        f"{folder}: its latent actions are inferred from tokens, which rounding changes; keep it",
    )
    mapper = read_mapper(folder, world)
    world.save_pretrained(out, rounded=True)
    copy_companions(folder, out, leave_out=REWARD)
    if mapper is not None:
        _keep_mapper(mapper, out)
    return out


def _keep_mapper(mapper: ActionMapper, folder: Path) -> None:
    """Ties a mapper to rounded weights. It depends on inferred actions only, which are the same."""
    made_for = latent_actions_hash(Genie.from_pretrained(folder, device="cpu"))
    mapper.config = replace(mapper.config, latent_actions=made_for)
    mapper.save_pretrained(folder / FOLDER)
