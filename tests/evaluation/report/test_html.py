from xml.etree import ElementTree

from genie.evaluation.report import html as elements


def test_tables_escape_and_shorten():
    html = elements.table(["<b>"], {"a & b": [1.23456], "none": [None]}, "corner")
    root = ElementTree.fromstring(html)
    assert [cell.text for cell in root.iter("th")] == ["corner", "<b>", "a & b", "none"]
    assert [cell.text for cell in root.iter("td")] == ["1.23", "–"]


def test_heat_tables_darken_by_share_of_the_row():
    html = elements.heat_table(["x", "y"], {"row": [1, 3], "empty": [0, 0]})
    assert "20%" in html
    assert "60%" in html
    assert html.count(" 0%") == 2


def test_line_charts_leave_gaps_out():
    html = elements.line_chart({"a": [1.0, None, 3.0], "<b>": [2.0, 2.0, 2.0]}, "t =", "dB")
    svg = ElementTree.fromstring(html).find("svg")
    lines = [line.get("points").split() for line in svg.iter("polyline")]
    assert [len(points) for points in lines] == [2, 3]
    heights = [float(point.split(",")[1]) for point in lines[0]]
    assert heights[0] > heights[1]


def test_no_values_no_chart():
    assert elements.line_chart({"a": [None]}, "t =", "dB") == ""
