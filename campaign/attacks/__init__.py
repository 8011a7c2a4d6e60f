"""The attacks: each file has some in `ATTACKS`."""

from importlib import import_module
from pkgutil import iter_modules

from campaign.harness import Attack


def find_attacks() -> list[Attack]:
    """Returns all attacks, by file and in the order of the file."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return [attack for module in modules for attack in getattr(module, "ATTACKS", ())]
