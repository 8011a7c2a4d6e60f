import json
import signal

import numpy as np
import pytest
from failing import fails

from genie.cli import main
from genie.data.labelling import Labelled
from genie.data.quality import load_quality
from genie.data.quality_labels import read_labels
from small import save_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Five clips of noise, and five of the same that are darker."""
    noise = np.random.default_rng(0).integers(0, 256, (5, 8, 16, 16, 3), np.uint8)
    clips = [("train", clip) for clip in (*noise, *(noise // 8))]
    return save_store(tmp_path_factory.mktemp("store"), *clips).path


LABELS = {str(n): "bad" if n < 5 else "good" for n in range(10)}


def test_a_filter_is_learned_from_a_file_of_labels(store, tmp_path, capsys):
    (tmp_path / "labels.json").write_text(json.dumps(LABELS))
    line = ["label", f"{store}", f"--labels={tmp_path}/labels.json"]
    out = tmp_path / "quality.json"
    assert main.main([*line, f"--out={out}", "--progress=false"]) == 0
    assert (load_quality(out).good, load_quality(out).bad) == (5, 5)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{out}: from 5 good and 5 bad clips; in 100.0% of held-out pairs")
    assert said[1] == (f"next: genie prepare VIDEOS --out STORE --quality {out} --keep_best 0.1")
    (tmp_path / "labels.json").write_text('{"1": "good"}')
    assert main.main([*line, f"--out={out}", "--progress=false"]) == 2
    assert "1 good and 0 bad ones" in capsys.readouterr().err


class Page:
    """Stands for the server and a person, who labels some clips and finishes or not."""

    def __init__(self, count, finishes):
        self.count, self.finishes, self.given = count, finishes, {}

    def __call__(self, *worlds, extend, **options):
        self.given, self.answers = options, {}
        assert worlds == ()
        extend(self)
        for _ in range(self.count):
            name = self.answers["get", "/label/clip"]()["clip"]["name"]
            label = LABELS[name.partition("#")[0]]
            self.answers["post", "/label/clip"](Labelled(name, label))
        if self.finishes:
            self.answers["post", "/label/finish"]()

    def get(self, path, tags):
        return lambda answer: self.answers.setdefault(("get", path), answer)

    def post(self, path, tags):
        return lambda answer: self.answers.setdefault(("post", path), answer)


def test_clips_are_labelled_on_a_page_and_the_filter_is_learned(
    store, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENIE_TOKEN", "a-secret-of-some-length")
    signals = []
    monkeypatch.setattr(signal, "raise_signal", signals.append)

    def run(page, *options):
        monkeypatch.setattr("genie.serving.server.serve", page)
        assert main.main(["label", f"{store}", "--progress=false", *options]) == 0
        return capsys.readouterr().out.splitlines()

    said = run(stopped := Page(6, finishes=False))
    told = list(read_labels("labels.json").values())
    counts = f"{told.count('good')} good and {told.count('bad')} bad clips"
    assert said == [
        f"labels.json: {counts}; the same command goes on",
        f"learn the filter with: genie label {store} --labels labels.json",
    ]
    assert (stopped.given["page"], stopped.given["port"]) == ("label.html", 8000)
    assert stopped.given["hosts"] == []
    assert stopped.given["token"] is None
    assert (len(told), signals) == (6, [])
    said = run(away := Page(4, finishes=True), "--host=192.168.1.5", "--port=0")
    assert said[0].startswith("quality.json: from 5 good and 5 bad clips")
    assert said[1].startswith("next: genie prepare")
    assert signals == [signal.SIGINT]
    assert (away.given["token"], away.given["host"]) == ("a-secret-of-some-length", "192.168.1.5")
    assert load_quality("quality.json").good == 5


def test_what_cannot_be_labelled_is_said_in_one_sentence(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("genie.serving.server.serve", Page(0, finishes=False))
    assert "no such folder; make a store" in fails(capsys, "label", tmp_path / "none")
    (tmp_path / "labels.json").write_text('{"menu.mp4#1": "bad"}')
    other = fails(capsys, "label", store, "--save", tmp_path / "labels.json")
    assert "has no clip menu.mp4#1" in other
    assert "another --save" in other
    both = fails(capsys, "label", store, "--save", "a.json", "--labels", "b.json")
    assert both.startswith("labels: give --labels")
