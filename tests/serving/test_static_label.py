"""The page on which a person labels clips, and its requests."""

import contextlib

import numpy as np
import pytest
from browsing import needs_chromium, wait_until
from fastapi.testclient import TestClient

from genie.data.labelling import Labelling
from genie.data.quality_labels import learn_quality, read_labels
from genie.serving import create_server
from small import save_store

SHOWN = "name => document.getElementById('canvas').dataset.clip === name"
SAYS = "words => document.getElementById('status').textContent.includes(words)"
COUNTS = "words => document.getElementById('count').textContent === words"
SHADE = "() => document.querySelector('canvas').getContext('2d').getImageData(9, 9, 1, 1).data[0]"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Twelve clips, each of its own shade of grey and with noise from frame to frame."""
    noise = np.random.default_rng(0).integers(0, 9, (12, 6, 24, 24, 3), np.uint8)
    clips = [("train", 20 * n + clip) for n, clip in enumerate(noise)]
    return save_store(tmp_path_factory.mktemp("store"), *clips)


def test_labels_are_given_by_requests(store, tmp_path):
    ended = []
    labelling = Labelling(store, tmp_path / "labels.json", on_finished=lambda: ended.append(1))
    app = create_server([], extend=labelling.add_to)
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/label.html").status_code == client.get("/label.js").status_code == 200
        assert client.get("/label/session").json()["clips"] == 12
        after = -1
        for number in range(12):
            clip = client.get("/label/clip", params={"after": after}).json()["clip"]
            said = {"clip": clip["name"], "label": "good" if number < 6 else "bad"}
            answer = client.post("/label/clip", json=said)
            assert answer.status_code == 200
            after = clip["place"]
        assert answer.json() == {"good": 6, "bad": 6, "undo": 12}
        assert client.get("/label/clip").json() == {"clip": None}
        assert client.post("/label/undo").json()["clip"]["name"] == clip["name"]
        for wrong in ({"clip": clip["name"], "label": "fine"}, {"clip": "99#1", "label": "bad"}):
            assert client.post("/label/clip", json=wrong).status_code == 422
        stranger = {"Origin": "http://elsewhere.example"}
        assert client.post("/label/undo", headers=stranger).status_code == 403
        assert len(read_labels(tmp_path / "labels.json")) == 11
        assert client.post("/label/finish").json() == {"good": 6, "bad": 5, "undo": 11}
        assert ended == [1]
        client.post("/label/undo")
        assert "at least 5 of each" in client.post("/label/finish").json()["detail"]


class TestPage:
    """In a real browser."""

    pytestmark = needs_chromium

    def test_two_keys_label_clips_and_a_stopped_session_goes_on(
        self, browser, running, store, tmp_path
    ):
        axe = pytest.importorskip("axe_playwright_python.sync_playwright")
        path, errors, ended = tmp_path / "labels.json", [], []
        page = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda r: "//127.0.0.1:" in r.url or errors.append(r.url))
        first = Labelling(store, path)
        order, clips = first.order, first.clips
        with running(create_server([], extend=first.add_to)) as address:
            page.goto(f"http://{address}/")
            page.wait_for_url(f"http://{address}/label.html")
            wait_until(page, SHOWN, order[0])
            assert axe.Axe().run(page).response["violations"] == []
            for turn, key in enumerate(("j", "f", "ArrowRight", "ArrowLeft", "j")):
                wait_until(page, SHOWN, order[turn])
                shade = store.read(clips[order[turn]].start, 1).mean()
                assert page.evaluate(SHADE) == pytest.approx(shade, abs=12)
                page.keyboard.press(key)
            page.tap("#good")
            wait_until(page, COUNTS, "6 of 12 labelled: 4 good, 2 bad")
            page.keyboard.press("u")
            wait_until(page, SHOWN, order[5])
            page.keyboard.press("f")
            wait_until(page, COUNTS, "6 of 12 labelled: 3 good, 3 bad")
            words = ["good", "bad", "good", "bad", "good", "bad"]
            assert read_labels(path) == dict(zip(order, words, strict=False))
        # Nobody answers, and what was labelled meanwhile is not lost.
        page.keyboard.press("j")
        wait_until(page, SAYS, "does not answer")
        second = Labelling(store, path, on_finished=lambda: ended.append(1))
        app, port = create_server([], extend=second.add_to), int(address.rpartition(":")[2])
        with running(app, port) as address:
            wait_until(page, COUNTS, "7 of 12 labelled: 4 good, 3 bad")
            page.reload()
            wait_until(page, SHOWN, order[7])
            page.keyboard.press("Backspace")
            wait_until(page, SHOWN, order[6])
            for turn, key in enumerate("jfjfjf", 6):
                wait_until(page, SHOWN, order[turn])
                page.keyboard.press(key)
            wait_until(page, SAYS, "All 12 clips are labelled")
            wait_until(page, COUNTS, "12 of 12 labelled: 6 good, 6 bad")
            page.click("#finish")
            wait_until(page, SAYS, "learns the filter from 6 good and 6 bad clips")
        with contextlib.closing(page):
            assert (errors, ended) == ([], [1])
        learned = learn_quality(store, read_labels(path), progress=False)
        assert (learned.model.good, learned.model.bad) == (6, 6)
