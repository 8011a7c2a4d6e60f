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
class Diagnostic:
    """One measurement of a model in training.

    Attributes:
        name: as in the logs, under `diagnostics/`.
        value: what was measured.
        warning: what is wrong, the figure, and what to try; empty where all is well.
    """

    name: str
    value: float
    warning: str = ""


class DiagnosticWarnings:
    """Reports what is wrong with a model, each problem once until it has passed.

    Args:
        console: where to write.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.reported: set[str] = set()

    def report(self, diagnostics: Iterable[Diagnostic]) -> list[str]:
        """Prints, and returns, the warnings that are new."""
        new = []
        for diagnostic in diagnostics:
            if not diagnostic.warning:
                self.reported.discard(diagnostic.name)
            elif diagnostic.name not in self.reported:
                self.reported.add(diagnostic.name)
                new.append(diagnostic.warning)
                print_warning(self.console, diagnostic.warning)
        return new


def print_warning(console: Console, text: str) -> None:
    """Prints a warning that cannot be overlooked: in a box, or on one line of a log file."""
    if console.is_terminal:
        console.print(Panel(text, title="warning", border_style="yellow", title_align="left"))
    else:
        say(console, f"warning: {text}")
