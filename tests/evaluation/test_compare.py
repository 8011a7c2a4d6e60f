import pytest
from tests.evaluation.test_evaluate import check_page, small

from genie.core.config import UserError
from genie.evaluation import compare
from genie.evaluation.evaluate import evaluate
from genie.evaluation.report.render import markdown

pytestmark = pytest.mark.usefixtures("short_detector")


@pytest.fixture
def worlds(game_world, monkeypatch):
    """Folders named `good` hold a world that obeys, others one that moves at random."""

    def opened(path, store, out, **settings):
        good = path.endswith("good")
        world = game_world(obeys=good, noise=not good)
        world.path = path
        return evaluate(world, store, out, **settings)

    monkeypatch.setattr(compare, "evaluate", opened)


def test_worlds_side_by_side(game, worlds, tmp_path):
    reports = compare.compare(["a/good", "bad", "b/good"], game.store(), tmp_path, **small())
    assert list(reports) == ["good", "bad", "good-2"]
    lines = (tmp_path / "comparison.md").read_text().splitlines()
    assert lines[0] == "|  | good | bad | good-2 |"
    assert {line.count("|") for line in lines} == {5}
    cells = {line.split("|")[1].strip(): line.split("|")[2:5] for line in lines[2:]}
    control = cells["ΔPSNR at t = 4, dB, ± standard error"]
    assert float(control[0].split("±")[0]) > 5 > float(control[1].split("±")[0])
    assert control[0] == control[2]
    named = cells["steps named right with 50 labels (the commonest)"]
    assert float(named[0].split("(")[0]) > 0.95
    check_page(tmp_path / "comparison.html")
    text = (tmp_path / "comparison.html").read_text()
    assert text.count("data:image/gif") == 3
    assert text.count("data:image/png") == 6
    assert (tmp_path / "bad" / "report.html").exists()


def test_a_protocol_without_pictures_has_a_table_side_by_side(game, worlds, tmp_path):
    stale = tmp_path / "good" / "pictures" / "play.gif"  # of an earlier evaluation
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"GIF89a")
    settings = small(clips=4) | {"protocol": "genieredux"}
    compare.compare(["a/good", "bad"], game.store(), tmp_path, **settings)
    assert "img" not in check_page(tmp_path / "comparison.html").tags
    assert "GenieRedux-Base" in (tmp_path / "comparison.md").read_text()


def test_every_report_has_a_table_for_a_paper(game, worlds, tmp_path):
    found = compare.evaluate("good", game.store(), tmp_path, **small())
    assert (tmp_path / "report.md").read_text() == markdown({"good": found})
    assert "| tokenizer, SSIM (copying the last frame) | 1.00 (" in markdown({"good": found})


def test_one_world_is_nothing_to_compare(tmp_path):
    with pytest.raises(UserError, match="at least two"):
        compare.compare(["a"], "store", tmp_path)


def test_a_world_that_is_not_there_is_named(game, tmp_path):
    missing = [str(tmp_path / "a"), str(tmp_path / "b")]
    with pytest.raises(UserError, match="a: "):
        compare.compare(missing, game.store(), tmp_path / "out", **small())
