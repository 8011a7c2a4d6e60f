"""The command `genie`: a parser for each command, built when it is chosen, so that help is quick.

Options come from the signatures and docstrings of the functions that do the work. Whatever a user
can get wrong ends with one sentence and exit code 2.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from genie import __version__
from genie.cli.commands import Command, find_commands
from genie.cli.output import unbreakable_output
from genie.core.config import UserError

if TYPE_CHECKING:
    from jsonargparse import Namespace

COMMANDS = find_commands()
NO_MEMORY = (
    "DefaultCPUAllocator", "Cannot allocate memory", "could not create a primitive",
    "failed to map segment", "can't start new thread",
)  # fmt: skip
"""In what torch, its libraries and the loader say where there is not enough memory."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code.

    0 is success, 2 something that the user can put right, 130 an interruption, 1 a bug of ours.
    Errors are one sentence on stderr; `--debug` or `GENIE_DEBUG=1` shows the traceback instead.

    Args:
        argv: the arguments after the program's name; those of this process when left out.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = os.environ.get("GENIE_DEBUG", "0") not in ("", "0") or "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    with unbreakable_output(), _warnings_as_notes(debug):
        try:
            _dispatch(arguments)
            return 0
        except SystemExit as end:  # --help, --print_config, and training that was asked to stop
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException as error:
            if debug:
                raise
            command = COMMANDS.get(split_command(arguments)[0])
            code, sentence = explain(error, command.less_memory if command else "")
            print(f"genie: {sentence}", file=sys.stderr)
            return code


def explain(error: BaseException, less_memory: str = "") -> tuple[int, str]:
    """The exit code and the sentence for an error that ended a command.

    Args:
        error: that ended it.
        less_memory: what to do where there is not enough memory.
    """
    text = " ".join(str(error).split())
    if isinstance(error, KeyboardInterrupt):
        return 130, "stopped by the keyboard; the same command goes on or starts again"
    if isinstance(error, ModuleNotFoundError):
        return 2, _how_to_install(error.name or "")
    if _lacks_memory(error):
        return 2, f"out of memory: {less_memory or Command.less_memory}"
    if isinstance(error, OSError):
        return 2, _about_file(error, text)
    if isinstance(error, ValueError):
        return 2, text
    bug = "this is a bug, --debug shows where it happened"
    return 1, f"{type(error).__name__}: {text}; {bug}"


def _lacks_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError | ImportError) and any(
        words in str(error) for words in NO_MEMORY
    )


def _how_to_install(module: str) -> str:
    from genie.cli.commands.doctor import EXTRAS

    package = module.partition(".")[0]
    for extra, modules in EXTRAS.items():
        if package in modules:
            return f"{package} is not installed: pip install 'genie-worlds[{extra}]'"
    return f"{module} is not installed: pip install genie-worlds puts everything in place"


def _about_file(error: OSError, text: str) -> str:
    place = f"{error.filename}: " if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"{place}the disk is full; free some space and give the same command again"
    if error.errno == errno.ENOENT:
        return f"{place}there is no such file or folder"
    return f"{place}{(error.strerror or text).lower()}"


@contextmanager
def _warnings_as_notes(debug: bool) -> Iterator[None]:
    """Prints what our code warns about as one-line notes, and hides what libraries deprecate."""

    def note(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if debug or category is UserWarning:
            print(f"note: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = note
        yield


def _dispatch(arguments: list[str]) -> None:
    name, rest = split_command(arguments)
    if name in COMMANDS:
        command = COMMANDS[name]
        command.run(_parsed(name, command, rest))
    elif name in ("", "help"):
        print(_overview())
    elif name in ("-V", "--version"):
        print(f"genie {__version__}")
    elif name in _groups() and rest[:1] in ([], ["--help"], ["-h"]):
        print(_overview(f"{name} "))
    else:
        asked = " ".join([name, *rest[:1]]) if name in _groups() else name
        close = get_close_matches(asked, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(COMMANDS)}"
        raise UserError(f"there is no command {asked!r}; {hint}")


def split_command(arguments: list[str]) -> tuple[str, list[str]]:
    """Returns the command, of one word or two, and its arguments."""
    two = " ".join(arguments[:2])
    if two in COMMANDS:
        return two, arguments[2:]
    name = "".join(arguments[:1])
    return "" if name in ("-h", "--help") else name, arguments[1:]


def _groups() -> set[str]:
    return {name.split()[0] for name in COMMANDS if " " in name}


def _overview(group: str = "") -> str:
    commands = {name: c for name, c in COMMANDS.items() if name.startswith(group)}
    width = max(map(len, commands))
    lines = [f"  {name:{width}}  {command.about}" for name, command in commands.items()]
    if group:
        return "\n".join([f"usage: genie {group}COMMAND [options]", "", *lines])
    examples = [f"  genie {c.example}" for c in COMMANDS.values() if c.example]
    return "\n".join(
        [
            "usage: genie COMMAND [options]",
            "",
            "From a folder of unlabelled videos to a world that can be played.",
            "",
            *lines,
            "",
            "The way from videos to a world:",
            "",
            *examples,
            "",
            "genie COMMAND --help lists the options; every command reads them from a file, too:",
            "--config file.yaml, and --print_config writes one. --debug shows where an error was.",
        ]
    )


def _parsed(name: str, command: Command, arguments: list[str]) -> Namespace:
    from genie.cli.parser import Parser

    about = command.about[0].upper() + command.about[1:]
    parser = Parser(prog=f"genie {name}", description=f"{about}.")
    parser.add_argument("--config", action="config", help="YAML or JSON file to read options from")
    command.options(parser)
    if command.defaults is not None:
        parser.set_defaults(command.defaults(arguments))
    return parser.parse_args(arguments)
