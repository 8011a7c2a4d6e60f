import signal

import numpy as np
from failing import fails

from genie.agents.pressing import Pressed
from genie.cli.main import main
from genie.data.video import write_video
from small import TEAL, save_world


class App:
    """Takes the requests that a command adds to the server."""

    def __init__(self):
        self.answers = {}

    def get(self, path, **about):
        return lambda answer: self.answers.setdefault(path, answer)

    post = get


def test_a_person_presses_keys_and_the_mapper_is_saved(tmp_path, monkeypatch, capsys):
    world, signals, pages = save_world(tmp_path / "world", TEAL), [], []
    monkeypatch.setattr(signal, "raise_signal", signals.append)

    def serve(*worlds, extend, page, **options):
        app = App()
        extend(app)
        pages.append((page, options["port"]))
        shown = app.answers["/press/clip"]()
        held = [["left"] if number % 20 < 10 else ["right"] for number in range(shown["count"])]
        app.answers["/press/held"](Pressed(held))

    monkeypatch.setattr("genie.serving.server.serve", serve)
    assert main(["press", str(world), "--seconds", "4", "--delay", "0", "--port", "0"]) == 0
    said = capsys.readouterr().out
    assert "0.00 seconds late" in said
    assert f"{world / 'mapper'}: the mapper and report.json" in said
    assert signals == [signal.SIGINT]
    assert pages == [("press.html", 0)]
    clip = tmp_path / "clip.gif"
    assert main(["generate", str(world), "--actions", "left,right", "--out", str(clip)]) == 0


def test_a_clip_of_a_minute_or_so(tmp_path, capsys):
    world = save_world(tmp_path / "world", TEAL)
    assert "at most 600" in fails(capsys, "press", world, "--seconds", "601")
    write_video(tmp_path / "one.mp4", np.zeros((1, 16, 16, 3), np.uint8), 10)
    assert "at least two frames" in fails(capsys, "press", world, "--clip", tmp_path / "one.mp4")
