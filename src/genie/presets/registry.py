"""The list of named configurations."""

from __future__ import annotations

from typing import Any

from genie.core.config import UserError, overridden
from genie.presets import paper, small
from genie.presets.preset import Preset
from genie.world.genie import Genie


def names() -> list[str]:
    """Returns the names of all presets, smallest first."""
    return list(PRESETS)


def get(name: str) -> Preset:
    """Returns the preset of a name.

    Raises:
        UserError: there is none of this name.
    """
    if name not in PRESETS:
        raise UserError(f"preset: there is no {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def create_genie_small(**overrides: Any) -> Genie:
    """Returns a new world of the preset `small`, of about 50M parameters.

    Args:
        overrides: fields of `GenieConfig`. Nested ones take dicts, as in
            `create_genie_small(dynamics={"layers": 8})`.

    Raises:
        UserError: a field is unknown or has a wrong value.
    """
    return Genie(overridden(get("small").world, overrides))


def create_genie_large(**overrides: Any) -> Genie:
    """Returns a new world of the preset `large`, the paper's 10.7B parameters: 43 GB in fp32.

    Under `torch.device("meta")` it takes no memory and can only be inspected.

    Args:
        overrides: as of `create_genie_small`.

    Raises:
        UserError: a field is unknown or has a wrong value.
    """
    return Genie(overridden(get("large").world, overrides))


PRESETS: dict[str, Preset] = {
    "demo": small.demo(),
    "tiny": small.tiny(),
    "coinrun-tiny": small.coinrun_tiny(),
    "tiny-paper": small.tiny_paper(),
    "coinrun-fast": paper.coinrun_fast(),
    "coinrun": paper.coinrun(),
    "coinrun-paper": paper.coinrun_paper(),
    "small": small.small(),
    "41m": paper.scaled("41M", 18, 8, 512, 48, 576),
    "96m": paper.scaled("96M", 16, 16, 768, 48, 768),
    "192m": paper.scaled("192M", 20, 18, 1024, 48, 1152),
    "404m": paper.scaled("404M", 21, 12, 1536, 96, 1600),
    "811m": paper.scaled("811M", 20, 20, 2048, 96, 2176),
    "1.6b": paper.scaled("1.6B", 28, 22, 2560, 96, 2688),
    "2.7b": paper.scaled("2.7B", 36, 22, 3072, 96, 3712),
    "large": paper.large(),
}
"""All presets by name, smallest first."""
