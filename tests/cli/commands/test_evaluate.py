from failing import fails

from genie.cli import main
from genie.world import bundled


def test_evaluate_writes_a_page_again(capsys, tmp_path):
    report = bundled.folder_of(bundled.DEFAULT) / "report.json"
    page = tmp_path / "page.html"
    assert main.main(["evaluate", str(report), "--out", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    assert "coinrun-tiny" in page.read_text()
    assert "names one page" in fails(capsys, "evaluate", report, report, "--out", page)
    assert "no such report" in fails(capsys, "evaluate", tmp_path / "none.json")
    assert "--data" in fails(capsys, "evaluate", "coinrun-tiny")
