"""Parsing of options with jsonargparse, with errors in one sentence that says what was expected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from jsonargparse import ArgumentParser

from genie.core.config import UserError

_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
_KINDS |= {"tuple": "a list such as [64, 64]", "list": "a list such as [a, b]"}


class Parser(ArgumentParser):
    """A parser whose errors are `UserError`; `--some-option` may be written for `--some_option`."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, allow_abbrev=False, **options)

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """Parses the arguments, those of this process when left out."""
        if args is not None:
            args = [_spelled(argument, self._option_string_actions) for argument in args]
        return super().parse_args(args, *rest, **options)

    def error(self, message: str, ex: Exception | None = None) -> Any:  # type: ignore[override]
        """Raises `UserError` with the message as a sentence."""
        known = [option for option in self._option_string_actions if option.startswith("--")]
        raise UserError(as_sentence(message, known, self.prog)) from ex


def _spelled(argument: str, known: Iterable[str]) -> str:
    name, equals, value = argument.partition("=")
    if not name.startswith("--") or name in known:
        return argument
    return "--" + name[2:].replace("-", "_") + equals + value


def as_sentence(message: str, known: Sequence[str], program: str) -> str:
    """Rewords an error message of jsonargparse.

    Args:
        message: what jsonargparse says, in one or more lines.
        known: the parser's options, for suggestions.
        program: what the help is asked of, such as `genie train`.
    """
    text = " ".join(message.split())
    if match := re.match(r"unrecognized arguments: ([^\s=]+)", text):
        return f"{match[1]}: unknown option{_suggestion(match[1], known, program)}"
    if match := re.search(r"(?:Group '(\S+)' does not accept option|Option) '(\S+)'", text):
        option = ".".join(part for part in match.groups() if part)
        return f"{option}: unknown option{_suggestion(f'--{option}', known, program)}"
    if match := re.match(r"the following arguments are required: (.*)", text):
        names = [name.strip() for name in match[1].split(",")]
        shown = [f"--{name}" if f"--{name}" in known else name for name in names]
        return f"give {' and '.join(shown)}; {program} --help lists all options"
    if match := re.search(r'Parser key "([^"]+)": (.*?)(?:Got|Given) value: (.*)$', text):
        wanted = _expected(match[2])
        return f"{match[1]}: expected {wanted}, got {match[3]!r}" if wanted else text
    return text


def _suggestion(option: str, known: Sequence[str], program: str) -> str:
    close = get_close_matches(option, known, n=1)
    return f", did you mean {close[0]}?" if close else f"; {program} --help lists the options"


def _expected(text: str) -> str:
    text = text[text.rfind("Errors:") :] if "Errors:" in text else text
    kinds = []
    for choices, kind in re.findall(
        r"Expected an? (?:typing\.Literal\[(.*?)\]|<class '(\w+)'>)", text
    ):
        if choices:
            kinds.append(" or ".join(choice.strip(" '") for choice in choices.split(",")))
        elif kind in _KINDS:
            kinds.append(_KINDS[kind])
    return " or ".join(kinds)
