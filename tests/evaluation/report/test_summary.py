import json

from genie.evaluation.report import summary
from genie.world import bundled


def test_a_table_has_a_dash_where_a_report_lacks_a_figure():
    report = json.loads((bundled.folder_of(bundled.DEFAULT) / "report.json").read_text("utf-8"))
    less = {key: value for key, value in report.items() if key != "frechet"}
    columns, rows = summary.paper_rows({"whole": report, "less": less})
    assert columns == ["whole", "less"]
    (row,) = [cells for name, cells in rows.items() if name.startswith("Fréchet")]
    assert row[0] != "–" == row[1]
    assert len([cells for cells in rows.values() if "–" in cells]) == 1
