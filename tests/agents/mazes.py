"""A new world for Procgen's frames, with a mapper that knows four actions of its mazes."""

from __future__ import annotations

from pathlib import Path

from genie.world.action_mapper import ActionMapper, MapperConfig, latent_actions_hash
from genie.world.genie import Genie
from small import save_world

MOVES = ("left", "right", "up", "down")


def save_maze_world(folder: Path) -> Path:
    """Saves both into a folder."""
    save_world(folder, height=64, width=64)
    world = Genie.from_pretrained(folder, "cpu")
    names = ("left+down", "left", "left+up", "down", "noop", "up", "right+down", "right")
    mapper = ActionMapper(MapperConfig("dictionary", names, 4, latent_actions_hash(world), 40))
    for latent, name in enumerate(MOVES):
        mapper.counts[latent, names.index(name)] = 10
    mapper.save_pretrained(folder / "mapper")
    return folder
