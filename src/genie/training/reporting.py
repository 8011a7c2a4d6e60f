"""What a person is told of a model in training: its scalars, and warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.panel import Panel

from genie.core.progress import say


def describe(logs: Mapping[str, float]) -> str:
    """Returns scalars in one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in logs.items())


@dataclass(frozen=True)
class Sign:
    """One thing about a model that was looked at.

    Attributes:
        name: of the figure, as in TensorBoard.
        figure: what was measured.
        warning: what is wrong, the figure, and what to try; empty where all is well.
    """

    name: str
    figure: float
    warning: str = ""


class Warnings:
    """Says what is wrong with a model, each thing once until it has been well again.

    Args:
        console: where to write.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.said: set[str] = set()

    def tell(self, signs: Iterable[Sign]) -> list[str]:
        """Prints, and returns, the warnings that are new."""
        new = []
        for sign in signs:
            if not sign.warning:
                self.said.discard(sign.name)
            elif sign.name not in self.said:
                self.said.add(sign.name)
                new.append(sign.warning)
                warn_loudly(self.console, sign.warning)
        return new


def warn_loudly(console: Console, text: str) -> None:
    """Prints a warning that cannot be overlooked: in a box, or on one line of a log file."""
    if console.is_terminal:
        console.print(Panel(text, title="warning", border_style="yellow", title_align="left"))
    else:
        say(console, f"warning: {text}")
