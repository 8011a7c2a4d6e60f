"""What pages are put together from: headings, paragraphs, tables and charts in HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from genie.evaluation.report.figures import Picture
from genie.evaluation.report.summary import figure

COLOURS = 6
"""Of lines, in page.html."""


def document(title: str, parts: Sequence[str]) -> str:
    """Returns a page of a title (plain text) and parts (HTML) in the style of all reports."""
    template = Template(files("genie.evaluation.report").joinpath("page.html").read_text("utf-8"))
    return template.substitute(title=escape(title), body="\n".join(parts))


def section(title: str, *parts: str) -> str:
    """Returns a heading and parts in HTML under it."""
    return f"<h2>{escape(title)}</h2>{''.join(parts)}"


def text(*sentences: str) -> str:
    """Returns a paragraph of plain text in HTML."""
    return f"<p>{escape(' '.join(sentences))}</p>"


def shown(pictures: Sequence[Picture], prefix: str) -> str:
    """Returns the pictures whose names begin with a prefix, in HTML."""
    return "".join(p.figure(p.caption) for p in pictures if p.name.startswith(prefix))


def table(columns: Sequence[str], rows: Mapping[str, Sequence[Any]], corner: str = "") -> str:
    """Returns an HTML table; numbers are shortened, None is a dash."""
    body = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(_cell(value) for value in values)}</tr>"
        for name, values in rows.items()
    )
    return _table((corner, *columns), body)


def _table(columns: Sequence[str], body: str) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in columns)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _cell(value: Any) -> str:
    return f"<td>{escape(value if isinstance(value, str) else figure(value))}</td>"


def heat_table(
    columns: Sequence[str], rows: Mapping[str, Sequence[float]], corner: str = ""
) -> str:
    """Returns an HTML table whose cells are the darker the larger their share of the row."""
    body = "".join(
        f"<tr><th>{escape(name)}</th>{_shares(values)}</tr>" for name, values in rows.items()
    )
    return _table((corner, *columns), body)


def _shares(values: Sequence[float]) -> str:
    total = max(1e-9, sum(values))
    cell = '<td style="background: color-mix(in srgb, var(--c1) {:.0f}%, transparent)">{}</td>'
    return "".join(cell.format(80 * value / total, figure(value)) for value in values)


def ranged(value: Mapping[str, Any], unit: str = "") -> str:
    """Returns a mean with its interval as text."""
    low, high = figure(value["low"]), figure(value["high"])
    return f"{figure(value['mean'], unit)} [{low}, {high}]"


def line_chart(
    lines: Mapping[str, Sequence[float | None]],
    x_label: str,
    y_label: str,
    times: Sequence[int] | None = None,
    marked: int | None = None,
) -> str:
    """Returns an SVG line chart with a legend.

    Args:
        lines: values by name; None leaves a gap out.
        x_label: before the last of the times.
        y_label: below the chart.
        times: where the values lie; 1, 2, ... when left out.
        marked: one of the times, at which a line is drawn.
    """
    width, height, left, bottom = 640, 300, 50, 40
    known = [value for values in lines.values() for value in values if value is not None]
    if not known:
        return ""
    times = times or range(1, max(map(len, lines.values())) + 1)
    low, high = min(known), max(known)
    span, first, length = (high - low) or 1.0, times[0], max(1, times[-1] - times[0])

    def across(time: int) -> float:
        return left + (width - left - 10) * (time - first) / length

    def place(time: int, value: float) -> str:
        y = 10 + (height - bottom - 10) * (1 - (value - low) / span)
        return f"{across(time):.1f},{y:.1f}"

    base, drawn = height - bottom, []
    if marked is not None:
        x = f"{across(marked):.1f}"
        drawn.append(f'<path d="M{x} 10V{base}" stroke="var(--line)" stroke-dasharray="4"/>')
        drawn.append(f'<text x="{x}" y="{base + 18}" text-anchor="middle">{marked}</text>')
    for index, (name, values) in enumerate(lines.items()):
        points = " ".join(place(t, v) for t, v in zip(times, values, strict=False) if v is not None)
        tone = f"var(--c{index % COLOURS + 1})"
        drawn.append(
            f'<polyline points="{points}" fill="none" stroke="{tone}" stroke-width="2.5"/>'
        )
        y = height + 18 * (index + 1)
        drawn.append(f'<rect x="{left}" y="{y - 10}" width="12" height="12" fill="{tone}"/>')
        drawn.append(f'<text x="{left + 18}" y="{y}">{escape(name)}</text>')
    total = height + 18 * len(lines) + 10
    return (
        f'<figure><svg viewBox="0 0 {width} {total}" width="{width}" role="img">'
        f'<path d="M{left} 10V{base}H{width - 10}" fill="none" stroke="var(--line)"/>'
        f'<text x="4" y="16">{figure(high)}</text><text x="4" y="{base}">{figure(low)}</text>'
        f'<text x="{left}" y="{base + 18}">{first}</text>'
        f'<text x="{width - 10}" y="{base + 18}" text-anchor="end">{x_label} {times[-1]}</text>'
        f"{''.join(drawn)}</svg><figcaption>{escape(y_label)}</figcaption></figure>"
    )
