"""The figures of an evaluation to read first, as a table in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def print_headlines(
    report: dict[str, Any], console: Console | None = None, before: dict[str, Any] | None = None
) -> None:
    """Prints the figures of an evaluation to read first, as a table.

    Args:
        report: as `genie.evaluate` returns it.
        console: where to print; standard output when left out.
        before: the report of the world that this one goes on from, shown beside it.
    """
    from rich.console import Console
    from rich.table import Table

    from genie.evaluation.metrics.metric import format_value

    colours = {"good": "green", "fair": "yellow", "poor": "red"}
    table = Table("", "what", *(["before"] if before else []), "figure", "beside")
    older = {line["name"]: line for line in before["headlines"]} if before else {}
    for line in report["headlines"]:
        colour = colours.get(line["verdict"], "white")
        cells = [line] if before is None else [older.get(line["name"]), line]
        table.add_row(
            f"[{colour}]{line['verdict']}[/{colour}]",
            f"{line['name']}\n[dim]{line['explanation']}[/dim]",
            *(format_value(cell["value"], cell["unit"]) if cell else "–" for cell in cells),
            f"{format_value(line['baseline'], line['unit'])}\n[dim]{line['baseline_name']}[/dim]",
        )
    console = console or Console(highlight=False)
    console.print(table)
    for note in report["notes"]:
        console.print(f"note: {note}", markup=False)
