from functools import wraps
from pathlib import Path

from genie.cli import main
from genie.cli.commands.prepare import SHOWN_NOTES
from genie.data.prepare import PrepareReport, prepare


def notes_of(skipped, notes, capsys, monkeypatch):
    report = PrepareReport(Path("store"), 0, 0, 0, {}, 15.0, skipped, notes)
    monkeypatch.setattr("genie.data.prepare.prepare", wraps(prepare)(lambda *_, **__: report))
    assert main.main(["prepare", "videos", "--out", "store"]) == 0
    return capsys.readouterr().err.splitlines()


def test_notes_that_differ_in_numbers_only_are_one_line(capsys, monkeypatch):
    notes = {f"{n}.mp4": f"dropped {n} frames in clips shorter than 16 frames" for n in range(3, 9)}
    said = notes_of({"a.mp4": "holds no frames"}, notes, capsys, monkeypatch)
    assert said == [
        "note: a.mp4: holds no frames",
        "note: 3.mp4 and 5 more videos: dropped 3 frames in clips shorter than 16 frames; "
        "each note is in store/store.json",
    ]


def test_many_kinds_of_notes_are_shortened(capsys, monkeypatch):
    skipped = {f"{n}.mp4": f"is damaged {'very ' * n}" for n in range(SHOWN_NOTES + 3)}
    said = notes_of(skipped, {}, capsys, monkeypatch)
    assert len(said) == SHOWN_NOTES + 1
    assert said[-1] == "note: 3 more videos in store/store.json"


def test_the_summary_counts_videos_by_kind(capsys, monkeypatch):
    kinds = {"image folders": 1, "video files": 2}
    report = PrepareReport(Path("store"), 3, 2, 4, {"train": 80}, 15.0, kinds=kinds)
    monkeypatch.setattr("genie.data.prepare.prepare", wraps(prepare)(lambda *_, **__: report))
    assert main.main(["prepare", "videos", "--out", "store"]) == 0
    said = "store: 4 clips of 2 of 3 videos (image folders: 1, video files: 2), 80 train frames\n"
    assert capsys.readouterr().out == said


def test_the_summary_says_why_clips_were_left_out(capsys, monkeypatch):
    left_out = {"duplicate": 2, "quality": 1200, "short": 1, "static": 3}
    report = PrepareReport(Path("store"), 0, 0, 0, {}, 15.0, left_out=left_out)
    monkeypatch.setattr("genie.data.prepare.prepare", wraps(prepare)(lambda *_, **__: report))
    assert main.main(["prepare", "videos", "--out", "store"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == (
        "clips left out: near duplicates: 2, below the quality: 1,200, too short: 1, static: 3"
    )


def test_a_cluster_gets_what_it_does_not_choose_itself(monkeypatch):
    given = {}
    report = PrepareReport(Path("store"), 0, 0, 0, {}, 15.0)
    monkeypatch.setattr(
        "genie.data.engines.prepare_on_ray", lambda **options: given.update(options) or report
    )
    line = "prepare videos --out store --engine ray --shards 8 --camera top"
    assert main.main(line.split()) == 0
    assert (given["source"], given["out"], given["shards"]) == ("videos", "store", 8)
    assert given["camera"] == "top"
    assert not {"engine", "shard", "workers"} & given.keys()
