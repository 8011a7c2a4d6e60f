from functools import wraps
from pathlib import Path

from genie.cli import main
from genie.cli.commands.prepare import SHOWN_NOTES
from genie.data.prepare import PrepareReport, prepare


def test_many_notes_on_videos_are_shortened(capsys, monkeypatch):
    skipped = {f"{number}.mp4": "holds no frames" for number in range(SHOWN_NOTES + 3)}
    report = PrepareReport(Path("store"), 0, 0, 0, {}, 15.0, skipped)
    monkeypatch.setattr("genie.data.prepare.prepare", wraps(prepare)(lambda *_, **__: report))
    assert main.main(["prepare", "videos", "--out", "store"]) == 0
    said = capsys.readouterr().err
    assert said.count("holds no frames") == SHOWN_NOTES
    assert "3 more like these in store/store.json" in said


def test_the_summary_counts_videos_by_kind(capsys, monkeypatch):
    kinds = {"image folders": 1, "video files": 2}
    report = PrepareReport(Path("store"), 3, 2, 4, {"train": 80}, 15.0, kinds=kinds)
    monkeypatch.setattr("genie.data.prepare.prepare", wraps(prepare)(lambda *_, **__: report))
    assert main.main(["prepare", "videos", "--out", "store"]) == 0
    said = "store: 4 clips of 2 of 3 videos (image folders: 1, video files: 2), 80 train frames\n"
    assert capsys.readouterr().out == said
