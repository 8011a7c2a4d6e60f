"""The commands of `genie`: each module here is one, by its name, also those of packages."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


@dataclass(frozen=True)
class Command:
    """A command of the program, as `COMMAND` in the module of its name.

    The module imports what takes time inside its functions, so that help is quick.

    Attributes:
        order: its place in the overview.
        about: one line for `genie --help`.
        example: how it is called, "" to be left out of the way from videos to a world.
        options: puts the options on a parser.
        run: does the work with the parsed options.
        defaults: values of the options in place of their own, from the arguments as given.
        less_memory: what to do where there is not enough memory.
    """

    order: int
    about: str
    example: str
    options: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], None]
    defaults: Callable[[list[str]], dict[str, Any]] | None = None
    less_memory: str = "use smaller batches or a smaller world"


def find_commands() -> dict[str, Command]:
    """Returns all commands by name, in the order of the overview.

    A module in a package is a command of two words: `agent/clone.py` is `genie agent clone`.
    """
    commands = dict(_found(__name__, __path__))
    return dict(sorted(commands.items(), key=lambda item: item[1].order))


def _found(package: str, path: Iterable[str], words: str = "") -> Iterator[tuple[str, Command]]:
    for info in pkgutil.iter_modules(path):
        module = import_module(f"{package}.{info.name}")
        if info.ispkg:
            yield from _found(module.__name__, module.__path__, f"{words}{info.name} ")
        else:
            yield f"{words}{info.name}", module.COMMAND
