import json
import re
from html import unescape
from itertools import count
from pathlib import Path
from xml.etree import ElementTree

import pytest
from jinja2 import UndefinedError

from genie.evaluation.figures import Figure
from genie.evaluation.metrics.metric import Metric, find_metrics
from genie.evaluation.metrics.rollouts import CONDITIONS
from genie.evaluation.report import render
from genie.world import bundled

ONLY_IN_THE_FILE = re.compile(
    r"""
    .*\.(stderr|clips|episodes|by_seed\.\*|seeds\.\*)           # of intervals that are shown
    | dynamics\.gain\..* | .*\.(psnr_interval|share_interval|intervals)\..*
    | long_rollouts\.(prompt_frames|at\.\d+\.(\w+\.(psnr|psnr_moving|ssim)|delta_psnr_moving\.\w+))
    | action_following\.(transitions|(real|reconstruction|random|majority)\.confusion\.\*\.\*)
    | held_actions\.stillest_action                                  # named in the pictures
    | supervised\.(share_of_true_entropy|share_of_ceiling\.\w+|chance\.mutual_information_95)
    | supervised\.inverse_dynamics\.(steps|evaluated_\w+|pairwise_accuracy\.\*\.\*)
    | supervised\.action_alignment\.\w+\.(transitions|conditions\.past\.accuracy)
    | supervised\.action_alignment\.\w+\.conditions\.\w+\.action_maps\.\*\.(labels|std|most_common)
    | (closed_loop|scrolling)\.choosing_games
    | coherence\.(avatar\.required|real\.(seconds|action_usage\.\*))
    | coherence\.rollouts\.\*\.coherent_steps_beside_real
    | coherence\.rollouts\.\*\.real_coherent\.(ended|up_to_steps|mean_steps)
    """,
    re.VERBOSE,
)
"""Figures of a report that stand in `report.json` only, where the page says that they are."""

DRAWN = re.compile(
    r"(long_)?rollouts\.(curves\.\w+|delta_psnr_(curve|low|high))\.\*"
    r"|coherence\.(limits\.distance_95|rollouts\.\*\.(distance|frechet)\.\w+\.\*)"
)
"""Figures that are points of a chart."""


@pytest.fixture
def report():
    path = bundled.folder_of(bundled.DEFAULT) / "report.json"
    return json.loads(path.read_text("utf-8"))


def marked(value, path, numbers, paths):
    """Returns a report with another number for every figure, and notes whose number is which."""
    if isinstance(value, dict):
        return {k: marked(item, (*path, k), numbers, paths) for k, item in value.items()}
    if isinstance(value, list):
        return [marked(item, (*path, "*"), numbers, paths) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    number = next(numbers)
    paths[number] = ".".join(path)
    return type(value)(number)


def text_of(html):
    """Returns the words of a page, without its style and without what is folded away."""
    html = re.sub(r"<style>.*?</style>|<pre>.*?</pre>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def test_every_figure_of_a_report_is_on_its_page(report):
    paths = {}
    figures = {k: v for k, v in report.items() if k not in render.PROVENANCE}
    html = render.render(report | marked(figures, (), count(5001), paths), [])
    shown = {word.rstrip(".,") for word in re.findall(r"[\d.,]+", text_of(html))}
    missing = {
        path
        for number, path in paths.items()
        if not shown & {f"{number}", f"{number}.00", f"{number:,}", f"{100 * number}"}
        and f"{100 * number}.0" not in shown
    }
    assert len(set(paths.values()) - missing) > 350
    explained = {p for p in missing if ONLY_IN_THE_FILE.fullmatch(p) or DRAWN.fullmatch(p)}
    assert missing == explained


def test_how_it_was_measured_is_on_the_page(report):
    html = render.render(report, [])
    measured = json.loads(unescape(re.search(r"<pre>(.*)</pre>", html, re.DOTALL)[1]))
    assert measured == {key: report[key] for key in render.PROVENANCE}
    words = text_of(html)
    for line in report["headlines"]:
        assert f"{line['verdict'].capitalize()}. {line['explanation']}" in words


def test_every_step_of_a_curve_is_a_point(report):
    html = render.render(report, [])
    points = [len(line.split()) for line in re.findall(r'polyline points="([^"]*)"', html)]
    for part in ("rollouts", "long_rollouts"):
        assert points.count(report[part]["horizon"]) >= len(CONDITIONS) + 3


def test_pictures_stand_in_their_sections(report):
    sections = ["headlines", "held_actions", "rollouts", "coherence"]
    html = render.render(report, [Figure(name, f"<{name}>", b"x", name) for name in sections])
    places = [html.index(f"<figcaption>&lt;{name}&gt;") for name in sections]
    titles = ["In short", "What each action does", "Playing real clips again", "Coherence: for how"]
    headings = [html.index(f"<h2>{title}") for title in titles]
    pairs = zip(headings, places, strict=True)
    assert sorted(places + headings) == [position for pair in pairs for position in pair]


@pytest.mark.parametrize(
    ("part", "title"),
    [
        ("separation", "Does each action lead somewhere else?"),
        ("coherence", "Coherence: for how long does it stay a world?"),
        ("long_rollouts", "Longer rollouts"),
        ("supervised", "Latent against true actions"),
        ("action_following", "Action following"),
        ("closed_loop", "Games follow held actions"),
        ("scrolling", "Held actions move the avatar their way"),
    ],
)
def test_what_was_skipped_says_why(report, part, title):
    words = text_of(render.render(report | {part: {"skipped": "too <short>"}}, []))
    assert f"{title} Skipped: too <short>" in words


def test_a_metric_that_a_report_does_not_have_leaves_no_trace(report):
    title = "Longer rollouts"
    assert title in text_of(render.render(report, []))
    del report["long_rollouts"]
    assert title not in text_of(render.render(report, []))


def test_a_metric_without_a_template_is_shown_as_its_cells(report, monkeypatch):
    (line,) = [*find_metrics()["separation"].headlines]
    metric = Metric("novel", 5, "Novelty", headlines=(line,))
    monkeypatch.setattr(render, "find_metrics", lambda: {"novel": metric})
    figure = Figure("a", "caption of it", b"x", "novel")
    words = text_of(render.render({**report, "novel": report["separation"]}, [figure]))
    assert "Novelty value Next frames, variance between actions over within" in words
    assert "caption of it" in words


def test_a_template_has_the_values_of_its_metric(report, monkeypatch, tmp_path):
    (tmp_path / "novel.html").write_text("<p>{{ metric.values.double(novel.size) }} times</p>")
    metric = Metric("novel", 5, "Novelty", values={"double": lambda size: 2 * size})
    monkeypatch.setattr(render, "find_metrics", lambda: {"novel": metric})
    monkeypatch.setattr(render, "template_folders", lambda: [tmp_path])
    monkeypatch.setattr(render, "_templates", render._templates.__wrapped__)
    assert "Novelty 14 times" in text_of(render.render({**report, "novel": {"size": 7}}, []))


def test_the_page_knows_no_metric():
    source = Path(render.__file__).read_text("utf-8")
    assert set(re.findall(r"genie\.evaluation\.metrics\.(\w+)", source)) == {"metric"}


def test_a_figure_that_is_missing_is_an_error_and_no_gap(report):
    del report["rollouts"]["at"]["4"]["inferred"]["ssim"]
    with pytest.raises(UndefinedError, match="ssim"):
        render.render(report, [])


def test_what_worlds_and_data_are_called_is_text(report):
    report["world"]["name"] = "<script>alert(1)</script>"
    report["notes"] = ["5 < 6 & so on"]
    html = render.render(report, [])
    assert "<script" not in html
    assert '<p class="note">5 &lt; 6 &amp; so on</p>' in html


def test_long_play_with_and_without_an_avatar(report):
    words = text_of(render.render(report, []))
    limit = report["coherence"]["limits"]["avatar_lost_frames"]
    assert f"once the avatar is gone for more than {limit} steps. Games that last" in words
    assert "avatar there, share of frames" in words
    report["coherence"]["avatar"] = {"skipped": "none to follow."}
    report["coherence"]["real"]["visible_rate"] = None
    words = text_of(render.render(report, []))
    assert "Avatar: skipped, none to follow." in words
    assert "avatar there" not in words
    assert "avatar is gone for more" not in words


def test_perceptual_distances_of_a_network(report):
    assert "no network was given with --lpips" in text_of(render.render(report, []))
    report["rollouts"]["perceptual"] = "alex (sha256 0123)"
    for i, conditions in enumerate(report["rollouts"]["at"].values()):
        for name in CONDITIONS:
            conditions[name]["perceptual"] = 0.25 + i
    words = text_of(render.render(report, []))
    assert "Perceptual distance of the network alex (sha256 0123): t = 1 t = 4" in words
    assert "inferred actions 0.25 1.25 2.25" in words


def test_actions_that_count_as_one_are_named(report):
    network = report["supervised"]["inverse_dynamics"]
    network["merges"] = []
    assert "count as one: there are none." in text_of(render.render(report, []))
    network["merges"] = [
        {"actions": [["a", "b"], ["c"]], "pairwise_accuracy": 0.61},
        {"actions": [["d"], ["e"]], "pairwise_accuracy": 0.7},
    ]
    expected = "count as one: a/b and c (0.61), then d and e (0.70)."
    assert expected in text_of(render.render(report, []))


def macro(name, *arguments):
    """Returns what a macro writes."""
    return getattr(render._templates().get_template("macros.html").module, name)(*arguments)


def test_rows_escape_and_shorten():
    row = ElementTree.fromstring(macro("row", "a & b", [1.23456, None, "<b>"]))
    assert [cell.text for cell in row] == ["a & b", "1.23", "–", "<b>"]


def test_heat_rows_darken_by_share_of_the_row():
    html = macro("heat_row", "row", [1, 3])
    assert re.findall(r" (\d+)%, transparent\)", html) == ["20", "60"]
    assert macro("heat_row", "empty", [0, 0]).count(" 0%") == 2


def test_line_charts_leave_gaps_out():
    html = macro("chart", {"a": [1.0, None, 3.0], "<b>": [2.0, 2.0, 2.0]}, "dB")
    svg = ElementTree.fromstring(html).find("svg")
    lines = [line.get("points").split() for line in svg.iter("polyline")]
    assert [len(points) for points in lines] == [2, 3]
    heights = [float(point.split(",")[1]) for point in lines[0]]
    assert heights[0] > heights[1]
    assert "<b>" in [text.text for text in svg.iter("text")]


def test_no_values_no_chart():
    assert macro("chart", {"a": [None]}, "dB").strip() == ""


def test_control_over_time_has_its_interval_and_is_marked_where_it_is_quoted():
    part = {
        "clips": 7,
        "delta_psnr_curve": [0.0, 1.0, 2.0, 3.0, 4.0],
        "delta_psnr_low": [-1.0, 0.0, 1.0, None, 3.0],
        "delta_psnr_high": [1.0, 2.0, 3.0, None, 5.0],
    }
    svg = ElementTree.fromstring(macro("delta_chart", part).strip()).find("svg")
    lines = [line.get("points").split() for line in svg.iter("polyline")]
    assert [len(points) for points in lines] == [5, 4, 4]
    at = next(path for path in svg.iter("path") if path.get("stroke-dasharray"))
    assert at.get("d").startswith(f"M{lines[0][3].split(',')[0]} ")


def test_a_table_has_a_dash_where_a_report_lacks_a_figure():
    report = json.loads((bundled.folder_of(bundled.DEFAULT) / "report.json").read_text("utf-8"))
    less = {key: value for key, value in report.items() if key != "frechet"}
    columns, rows = render.paper_rows({"whole": report, "less": less})
    assert columns == ["whole", "less"]
    (row,) = [cells for name, cells in rows.items() if name.startswith("Fréchet")]
    assert row[0] != "–" == row[1]
    assert len([cells for cells in rows.values() if "–" in cells]) == 1
