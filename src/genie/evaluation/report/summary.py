"""The figures of one or several worlds as a table fit for a paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genie.evaluation.metrics.metric import measured


def markdown(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the figures of one or several worlds, by name, as a Markdown table."""
    columns, rows = paper_rows(reports)
    lines = [["", *columns], ["---"] * (1 + len(columns))]
    lines += [[name, *cells] for name, cells in rows.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def paper_rows(
    reports: Mapping[str, Mapping[str, Any]],
) -> tuple[list[str], dict[str, list[str]]]:
    """Returns the figures that a paper quotes: names of the worlds, and a row of cells per figure.

    Brackets hold the baselines that the name of the row names. A report that lacks a figure has a
    dash.
    """
    found = {name: dict[str, str]() for name in reports}
    for name, report in reports.items():
        for metric, section in measured(report).values():
            found[name] |= metric.cells_of(section)
    labels = dict.fromkeys(label for cells in found.values() for label in cells)
    return list(found), {label: [f.get(label, "–") for f in found.values()] for label in labels}
