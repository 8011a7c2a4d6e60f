"""What a metric is: computation, headlines, table cells and notes of one section of a report.

A module of this package or of `genie.plugins` that holds a `Metric` is found by itself. It needs
no other line of code. Other packages name such modules as entry points `genie.metrics`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from genie.evaluation.metrics.context import Evaluation, RolloutMeasure
from genie.evaluation.protocol.held_actions import Measure

Section = Mapping[str, Any]
"""What a metric adds to `report.json`."""
Number = float | str | Callable[[Section], float | None] | None
"""A constant, the path of a value in the section such as `real.macro_f1`, or a function of it."""
Text = str | Callable[[Section], str]
"""A text, in which `{key}` is a value of the section, or a function of the section."""
Rows = tuple[tuple[Text, *tuple[Number, ...]], ...]
"""Of each row its name, a value and the baselines that stand beside it in brackets."""
Kind = TypeVar("Kind")

GOOD, FAIR, POOR = "good", "fair", "poor"
PACKAGES = ("genie.evaluation.metrics", "genie.plugins")
ENTRY_POINTS = "genie.metrics"


@dataclass(frozen=True)
class Headline:
    """One value to read first, with its baseline and a verdict.

    Attributes:
        name: what the value is.
        value: the value; None where it is not known.
        baseline: name and value of what it stands beside.
        limits: least scores of the verdicts "good" and "fair"; rules of thumb.
        good: what the verdict "good" means.
        fair: the same of "fair".
        poor: the same of "poor".
        unit: of value and baseline.
        score: what is compared with the limits; None is poor. The value when left out.
        certain: whether the score stands out from chance; poor where it does not.
        shown: whether the section has the value.
    """

    name: Text
    value: Number
    baseline: tuple[Text, Number]
    limits: tuple[Number, Number]
    good: Text
    fair: Text
    poor: Text
    unit: str = ""
    score: Number = None
    certain: Callable[[Section], bool] = lambda section: True
    shown: Callable[[Section], bool] = lambda section: True

    def of(self, section: Section) -> dict[str, Any]:
        """Returns the headline as it stands in `report.json`."""
        score = number(self.value if self.score is None else self.score, section)
        good, fair = (number(limit, section) for limit in self.limits)
        verdict = POOR
        if score is not None and self.certain(section):
            verdict = GOOD if score >= good else FAIR if score >= fair else POOR
        return {
            "name": text(self.name, section),
            "value": number(self.value, section),
            "unit": self.unit,
            "baseline": number(self.baseline[1], section),
            "baseline_name": text(self.baseline[0], section),
            "verdict": verdict,
            "explanation": text(getattr(self, verdict), section),
        }


def number(source: Number, section: Section) -> Any:
    """Returns a number of a section."""
    if callable(source):
        return source(section)
    if not isinstance(source, str):
        return source
    found: Any = section
    for key in source.split("."):
        if found is not None:
            found = found[int(key) if isinstance(found, list) else key]
    return found


def text(source: Text, section: Section) -> str:
    """Returns a text about a section."""
    return source(section) if callable(source) else source.format(**section)


def _nothing(*_: Any) -> Any:
    return {}


@dataclass(frozen=True)
class Metric:
    """One section of a report.

    The page shows the section by the template `KEY.html` beside the module, or without one as a
    table of its cells.

    Attributes:
        key: of the section in `report.json`.
        order: place on the page; metrics of the package are multiples of ten.
        title: heading on the page.
        protocol: the protocol that it is part of, a key of `PROTOCOLS`.
        measure: computes the section. It may raise `Skipped`.
        rollout_measure: makes a function of each batch of held-out clips and their rollouts. What
            it returns by side is in `kept` of the evaluation when `measure` is called.
        held_measure: makes a function of the games in which an action is held: what is kept of
            each of their steps.
        headlines: the values to read first.
        cells: rows of the table for a paper: name, value and baselines of each, or a function that
            makes the text of a cell by the name of its row. The headlines when left out.
        values: what the template needs besides the section, such as labels and functions of the
            section. It reads `metric.values.NAME`.
        notes: sentences at the top of the report, from the evaluation and the section.
        when_skipped: begins a note with the reason, where the metric was skipped.
    """

    key: str
    order: int
    title: str
    protocol: str = "genie"
    measure: Callable[[Evaluation], dict[str, Any]] = _nothing
    rollout_measure: Callable[[Evaluation], RolloutMeasure] | None = None
    held_measure: Callable[[Evaluation], Measure] | None = None
    headlines: tuple[Headline, ...] = ()
    cells: Callable[[Section], dict[str, str]] | Rows | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    notes: Callable[[Evaluation, Section], Iterable[str]] = _nothing
    when_skipped: str = ""

    def headlines_of(self, section: Section) -> list[dict[str, Any]]:
        """Returns the values to read first."""
        return [headline.of(section) for headline in self.headlines if headline.shown(section)]

    def cells_of(self, section: Section) -> dict[str, str]:
        """Returns the rows of the table for a paper."""
        if isinstance(self.cells, tuple):
            return {
                text(name, section): beside(*(number(value, section) for value in values))
                for name, *values in self.cells
            }
        if self.cells is not None:
            return self.cells(section)
        lines = self.headlines_of(section)
        return {
            f"{line['name']} ({line['baseline_name']})": beside(line["value"], line["baseline"])
            for line in lines
        }


@cache
def find_metrics() -> dict[str, Metric]:
    """Returns all metrics by key, in the order of the page."""
    found = sorted(registered(Metric), key=lambda metric: metric.order)
    return {metric.key: metric for metric in found}


def registered(kind: type[Kind]) -> list[Kind]:
    """Returns the objects of a kind that stand in the modules of metrics and plug-ins."""
    values = [value for module in _modules() for value in vars(module).values()]
    return [value for value in values if isinstance(value, kind)]


def template_folders() -> list[Path]:
    """Returns the folders of the modules, which hold the templates of their metrics."""
    files = (module.__file__ for module in _modules())
    return list(dict.fromkeys(Path(file).parent for file in files if file))


@cache
def _modules() -> list[ModuleType]:
    names = [
        f"{package}.{module.name}"
        for package in PACKAGES
        if (spec := find_spec(package)) is not None
        for module in pkgutil.iter_modules(spec.submodule_search_locations)
    ]
    return [*map(import_module, names), *(p.load() for p in entry_points(group=ENTRY_POINTS))]


def measured(report: Section) -> dict[str, tuple[Metric, Section]]:
    """Returns the metrics that a report has, each with its section; skipped ones are left out."""
    return {
        key: (metric, report[key])
        for key, metric in find_metrics().items()
        if key in report and "skipped" not in report[key]
    }


def format_value(value: Any, unit: str = "") -> str:
    """Returns a number as text, short enough to read; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, int) or value == 0:
        return f"{int(value)} {unit}".rstrip()
    digits = 3 if abs(value) < 0.1 else 2
    return f"{round(value, digits) + 0.0:.{digits}f} {unit}".rstrip()


def with_interval(value: Section) -> str:
    """Returns a mean with its interval as text."""
    mean, low, high = (format_value(value[key]) for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def beside(value: Any, *baselines: Any) -> str:
    """Returns a cell: a value, and its baselines in brackets."""
    return f"{format_value(value)} ({', '.join(map(format_value, baselines))})"
