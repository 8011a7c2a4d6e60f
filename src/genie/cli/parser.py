"""Parsing of options with jsonargparse, with errors in one sentence that says what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from jsonargparse import ArgumentParser

from genie.cli.kinds import Kinds, remove_other_kinds, union_paths, with_all_kinds
from genie.core.config import UserError
from genie.core.renamed_keys import new_option

_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
_KINDS |= {"tuple": "a list such as [64, 64]", "list": "a list such as [a, b]"}


class Parser(ArgumentParser):
    """A parser whose errors are `UserError`; `--some-option` may be written for `--some_option`."""

    def __init__(self, *args: Any, **options: Any):
        self._owners: list[tuple[str, Any]] = []
        self._unions: dict[str, Kinds] = {}
        super().__init__(*args, allow_abbrev=False, **options)

    def add_class_arguments(self, theclass: Any, nested_key: str | None = None, **rest: Any) -> Any:  # type: ignore[override]
        """Puts the fields of a class on the parser, in a group if one is named."""
        self._owners.append((nested_key or "", theclass))
        self._unions |= union_paths(theclass, nested_key or "")
        added = super().add_class_arguments(with_all_kinds(theclass), nested_key, **rest)
        for group in self._action_groups:  # those of its fields have their descriptions as titles
            title = " ".join((group.title or "").split())
            group.title = title[:1].upper() + title[1:]
        return added

    def add_function_arguments(self, function: Any, *args: Any, **rest: Any) -> Any:
        """Puts the arguments of a function on the parser."""
        self._owners.append(("", function))
        return super().add_function_arguments(function, *args, **rest)

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """Parses the arguments, those of this process when left out."""
        if args is not None:
            args = [_spelled(argument, self._option_string_actions) for argument in args]
        parsed = super().parse_args(args, *rest, **options)
        for path, kinds in self._unions.items():
            remove_other_kinds(parsed, self.get_defaults(), path, kinds)
        return parsed

    def error(self, message: str, ex: Exception | None = None) -> Any:  # type: ignore[override]
        """Raises `UserError` with the message as a sentence."""
        known = [option for option in self._option_string_actions if option.startswith("--")]
        raise UserError(as_sentence(message, known, self.prog, self._new_name)) from ex

    def _new_name(self, option: str) -> str | None:
        return new_option(option, self._owners)


def _spelled(argument: str, known: Iterable[str]) -> str:
    name, equals, value = argument.partition("=")
    if not name.startswith("--") or name in known:
        return argument
    return "--" + name[2:].replace("-", "_") + equals + value


def as_sentence(
    message: str,
    known: Sequence[str],
    program: str,
    new_name: Callable[[str], str | None] = lambda _: None,
) -> str:
    """Rewords an error message of jsonargparse.

    Args:
        message: what jsonargparse says, in one or more lines.
        known: the parser's options, for suggestions.
        program: what the help is asked of, such as `genie train`.
        new_name: what an option that was renamed is called today.
    """
    text = " ".join(message.split())
    if match := re.match(r"unrecognized arguments: ([^\s=]+)", text):
        return _unknown(match[1], match[1], known, program, new_name)
    if match := re.search(r"(?:Group '(\S+)' does not accept option|Option) '(\S+)'", text):
        option = ".".join(part for part in match.groups() if part)
        return _unknown(option, f"--{option}", known, program, new_name)
    if match := re.match(r"the following arguments are required: (.*)", text):
        names = [name.strip() for name in match[1].split(",")]
        shown = [f"--{name}" if f"--{name}" in known else name for name in names]
        return f"give {' and '.join(shown)}; {program} --help lists all options"
    if match := re.search(r'Parser key "([^"]+)": (.*?)(?:Got|Given) value: (.*)$', text):
        wanted = _expected(match[2])
        return f"{match[1]}: expected {wanted}, got {match[3]!r}" if wanted else text
    return text


def _unknown(
    shown: str,
    option: str,
    known: Sequence[str],
    program: str,
    new_name: Callable[[str], str | None],
) -> str:
    new = new_name(option.removeprefix("--").replace("-", "_"))
    if new is not None:
        return f"{shown}: unknown option, it is now {'--' if shown == option else ''}{new}"
    return f"{shown}: unknown option{_suggestion(option, known, program)}"


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
