from xml.etree import ElementTree

from genie.evaluation.report import page


def test_control_over_time_has_its_interval_and_is_marked_where_it_is_quoted():
    part = {
        "clips": 7,
        "delta_psnr_curve": [0.0, 1.0, 2.0, 3.0, 4.0],
        "delta_psnr_low": [-1.0, 0.0, 1.0, None, 3.0],
        "delta_psnr_high": [1.0, 2.0, 3.0, None, 5.0],
    }
    svg = ElementTree.fromstring(page.delta_chart(part)).find("svg")
    lines = [line.get("points").split() for line in svg.iter("polyline")]
    assert [len(points) for points in lines] == [5, 4, 4]
    marked = next(path for path in svg.iter("path") if path.get("stroke-dasharray"))
    assert marked.get("d").startswith(f"M{lines[0][3].split(',')[0]} ")


def test_true_actions_that_never_occur_have_no_column():
    part = {"true_actions": ["stay", "jump", "left"], "table": [[5, 0, 0], [0, 0, 0], [2, 0, 7]]}
    rows = ElementTree.fromstring(page.counts_table(part)).findall(".//tr")
    assert [[cell.text for cell in row] for row in rows] == [
        ["count of transitions", "stay", "left"],
        ["latent 0", "5", "0"],
        ["latent 1", "0", "0"],  # a latent action that is not used is worth knowing of
        ["latent 2", "2", "7"],
    ]
