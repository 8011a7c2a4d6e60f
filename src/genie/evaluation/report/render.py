"""The report as one HTML page that needs nothing else, and its figures as a table for a paper.

A page has no script, makes no request, and is light or dark.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from genie.evaluation.figures import Figure
from genie.evaluation.metrics.metric import (
    find_metrics,
    format_value,
    measured,
    template_folders,
    with_interval,
)

PROVENANCE = ("settings", "seconds", "machine", "versions", "data", "world")


def render(report: Mapping[str, Any], pictures: Sequence[Figure]) -> str:
    """Returns the page of a report.

    Args:
        report: as in `report.json`.
        pictures: shown inline, each in its section.
    """
    facts = {key: report[key] for key in PROVENANCE}
    return _page(
        "template.html",
        **{**report, "pictures": pictures},
        report=report,
        metrics={key: metric for key, metric in find_metrics().items() if key in report},
        provenance=json.dumps(facts, indent=1, ensure_ascii=False),
    )


def render_comparison(
    columns: Sequence[str],
    rows: Mapping[str, Sequence[str]],
    figures: Mapping[str, Mapping[str, Figure]],
) -> str:
    """Returns the page of several worlds.

    Args:
        columns: names of the worlds.
        rows: a cell for each world, by the name of the row.
        figures: for each title a picture for each world, by its name.
    """
    return _page("comparison.html", columns=columns, rows=rows, figures=figures)


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


def _page(template: str, **values: Any) -> str:
    return _templates().get_template(template).render(values)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, *template_folders()]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": lambda value, unit="": (
            value if isinstance(value, str) else format_value(value, unit)
        ),
        "with_interval": with_interval,
        "percent": lambda share: f"{100 * share:.0f}",
        "step_label": lambda step: f"t = {step}",
        "renamed": lambda values, names: {name: values[key] for key, name in names.items()},
        "of": lambda key, part: part[key],
    }
    environment.globals["line_chart"] = line_chart
    return environment


def line_chart(
    lines: Mapping[str, Sequence[float | None]],
    times: Sequence[int] | None = None,
    marked: int | None = None,
) -> dict[str, Any]:
    """Returns where the parts of a line chart lie, in pixels; empty where there is nothing to show.

    Args:
        lines: values by name; None leaves a gap out.
        times: where the values lie; 1, 2, ... when left out.
        marked: one of the times, at which a line is to be drawn.
    """
    known = [value for values in lines.values() for value in values if value is not None]
    if not known:
        return {}
    times = times or range(1, max(map(len, lines.values())) + 1)
    left, right, top, bottom = 50, 630, 10, 260
    low, high, first, last = min(known), max(known), times[0], times[-1]
    x_scale, y_scale = (right - left) / max(1, last - first), (bottom - top) / ((high - low) or 1.0)

    def x(time: int) -> str:
        return f"{left + x_scale * (time - first):.1f}"

    def points(values: Sequence[float | None]) -> list[str]:
        pairs = zip(times, values, strict=False)
        return [f"{x(t)},{bottom - y_scale * (v - low):.1f}" for t, v in pairs if v is not None]

    return {
        "width": 640, "height": 310 + 18 * len(lines),
        "left": left, "right": right, "top": top, "bottom": bottom,
        "low": low, "high": high, "first": first, "last": last,
        "marked": None if marked is None else x(marked),
        "lines": {name: points(values) for name, values in lines.items()},
    }  # fmt: skip
