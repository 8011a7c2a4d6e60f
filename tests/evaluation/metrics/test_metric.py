import json
import re
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from genie.evaluation.metrics import metric as module
from genie.evaluation.metrics.metric import (
    Headline,
    Metric,
    beside,
    find_metrics,
    format_value,
    measured,
)
from genie.world import bundled

RECIPE = Path(__file__).parents[3] / "docs" / "extending.md"

CONTROL = Headline(
    name="Control at {step}",
    unit="dB",
    value="inner.0.value",
    baseline=("chance of {step}", lambda section: section["step"] / 2),
    limits=(2, "least"),
    good="A lot.",
    fair="A little.",
    poor="None.",
)


def section(value, **changes):
    return {"step": 4, "inner": [{"value": value}], "least": 1.0} | changes


@pytest.mark.parametrize(
    ("value", "verdict", "explanation"),
    [
        (3, "good", "A lot."),
        (1.5, "fair", "A little."),
        (0, "poor", "None."),
        (None, "poor", "None."),
    ],
)
def test_a_headline_is_read_off_its_section(value, verdict, explanation):
    assert CONTROL.of(section(value)) == {
        "name": "Control at 4", "value": value, "unit": "dB", "baseline": 2.0,
        "baseline_name": "chance of 4", "verdict": verdict, "explanation": explanation,
    }  # fmt: skip


def test_a_score_in_place_of_the_value_decides():
    uncertain = replace(CONTROL, score=lambda section: None)
    assert uncertain.of(section(3))["verdict"] == "poor"
    assert replace(CONTROL, score="step").of(section(0))["verdict"] == "good"


def test_a_score_that_chance_could_give_is_poor():
    chance = replace(
        CONTROL, certain=lambda section: section["inner"][0]["value"] > section["step"]
    )
    assert chance.of(section(3))["verdict"] == "poor"
    assert chance.of(section(5))["verdict"] == "good"
    assert chance.of(section(None))["verdict"] == "poor"  # nothing to ask about


def test_what_is_unknown_within_a_path_is_unknown():
    assert module.number("inner.value.deeper", {"inner": None}) is None


def test_headlines_are_the_cells_where_there_are_no_others():
    metric = Metric("control", 1, "Control", headlines=(CONTROL,))
    assert metric.cells_of(section(3)) == {"Control at 4 (chance of 4)": "3 (2.00)"}
    hidden = replace(metric, headlines=(replace(CONTROL, shown=lambda section: False),))
    assert hidden.cells_of(section(3)) == {}
    assert replace(metric, cells=lambda section: {"a": "b"}).cells_of(section(3)) == {"a": "b"}


def test_all_metrics_are_found_in_the_order_of_the_page():
    found = find_metrics()
    assert {"tokenizer", "rollouts", "separation", "scrolling"} < found.keys()
    orders = [metric.order for metric in found.values()]
    assert orders == sorted(set(orders))
    assert all(key == metric.key for key, metric in found.items())


def test_a_report_has_the_metrics_that_were_measured():
    report = json.loads((bundled.folder_of(bundled.DEFAULT) / "report.json").read_text("utf-8"))
    report["separation"] = {"skipped": "too few"}
    del report["frechet"]
    assert find_metrics().keys() - measured(report).keys() >= {"separation", "frechet"}
    for metric, part in measured(report).values():
        assert all(
            line["verdict"] in ("good", "fair", "poor") for line in metric.headlines_of(part)
        )
        assert metric.cells_of(part)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "dB", "–"),
        (3, "", "3"),
        (1.236, "dB", "1.24 dB"),
        (0.0123, "", "0.012"),
        (0.0, "dB", "0 dB"),
        (-0.0001, "", "0.000"),
    ],
)
def test_values_are_short(value, unit, text):
    assert format_value(value, unit) == text


def test_a_cell_has_its_baselines_in_brackets():
    assert beside(1.5, 2, None) == "1.50 (2, –)"


def test_the_metric_of_the_recipe_is_one(evaluation):
    page = RECIPE.read_text("utf-8").split("## Add a metric")[1]
    code = dedent(re.search(r" *```python\n(.*?) *```", page, re.DOTALL)[1])
    module = ModuleType("brightness")
    exec(code, vars(module))
    metric = module.BRIGHTNESS
    assert metric.key not in find_metrics()
    assert metric.order not in {other.order for other in find_metrics().values()}
    section = metric.measure(evaluation())
    (line,) = metric.headlines_of(section)
    assert (line["value"], line["verdict"]) == (pytest.approx(1), "good")
