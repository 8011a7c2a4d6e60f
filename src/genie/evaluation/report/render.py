"""The report as one HTML page that needs nothing else: no script, no request, light and dark."""

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
    measured = {key: report[key] for key in PROVENANCE}
    return _page(
        "template.html",
        **{**report, "pictures": pictures},
        report=report,
        metrics={key: metric for key, metric in find_metrics().items() if key in report},
        provenance=json.dumps(measured, indent=1, ensure_ascii=False),
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
