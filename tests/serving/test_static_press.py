"""The page on which a person presses the keys that fit a clip."""

import json

import numpy as np
import pytest
import torch
from browsing import needs_chromium, wait_until

from genie.agents import pressing
from genie.agents.pressing import Clip, Pressing
from genie.serving import create_server
from genie.serving.service import ServedWorld
from genie.world.action_mapper import ActionMapper

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
pytestmark = needs_chromium
FPS, DELAY, HOLD = 30.0, 8, 10
NAMES = ["left", "noop", "right", "right+up"]
LATENT = torch.tensor([3, 0, 1, 2, 1, 3, 2, 0, 3, 1, 0, 2]).repeat_interleave(HOLD)
TRUE = {0: ["ArrowLeft"], 1: [], 2: ["ArrowRight"], 3: ["ArrowRight", "ArrowUp"]}
# Holds the keys of each frame some frames after it was shown.
PLAYER = """keys => {
    const canvas = document.getElementById("canvas"), down = new Set();
    const send = (type, code) =>
        document.body.dispatchEvent(new KeyboardEvent(type, { code, bubbles: true }));
    const play = () => {
        const wanted = keys[Number(canvas.dataset.frame)] ?? [];
        for (const code of [...down].filter((one) => !wanted.includes(one))) {
            down.delete(code);
            send("keyup", code);
        }
        for (const code of wanted.filter((one) => !down.has(one))) {
            down.add(code);
            send("keydown", code);
        }
        requestAnimationFrame(play);
    };
    play();
}"""


@pytest.fixture
def pressing_page(browser, running, dot_world, dot_prompts, tmp_path, monkeypatch):
    monkeypatch.setattr(pressing, "latent_actions_hash", lambda world: "dots")
    frames = torch.zeros(len(LATENT) + 1, 24, 24, 3, dtype=torch.uint8)
    frames[torch.arange(len(frames)), torch.arange(len(frames)) % 24, 3] = 255
    clip = Clip(frames, torch.cat([LATENT, torch.tensor([-1])]), FPS, "dots")
    reports = []
    made = Pressing(dot_world, clip, NAMES, tmp_path / "mapper", on_made=reports.append)
    page, errors = browser.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    server = create_server([ServedWorld("dots", dot_world, dot_prompts)], extend=made.add_to)
    with running(server) as address:
        page.goto(f"http://{address}/press.html")
        page.wait_for_selector("#start:enabled")
        yield page, reports, tmp_path / "mapper"
        page.close()
    assert not errors


def test_keys_that_are_pressed_to_a_clip_become_a_mapper(pressing_page):
    page, reports, folder = pressing_page
    names = page.locator("#pad button span").all_inner_texts()
    assert names == ["left", "right", "up", "cannot tell"]
    assert axe.Axe().run(page).response["violations"] == []
    late = [[]] * DELAY + [TRUE[action] for action in LATENT.tolist()]
    page.evaluate(PLAYER, late)
    page.click("#start")
    wait_until(page, "() => document.getElementById('status').textContent.startsWith('Saved')")
    (report,) = reports
    assert report == json.loads((folder / "report.json").read_text())
    # The next frame is drawn a moment after the key was noted.
    assert report["delay_seconds"] * FPS == pytest.approx(DELAY, abs=2)
    assert report["last_quarter"]["to_real"]["accuracy"] > 0.7
    mapper = ActionMapper.from_pretrained(folder)
    frame = np.zeros((24, 24, 3), np.uint8)
    assert [mapper.to_latent(frame, name) for name in NAMES] == [0, 1, 2, 3]


def test_moments_in_which_space_is_held_and_those_not_shown_do_not_count(pressing_page):
    page, reports, _ = pressing_page
    page.click("#start")
    page.keyboard.down("Space")
    page.wait_for_timeout(100)
    page.click("#finish")
    wait_until(page, "() => document.getElementById('status').textContent.includes('too few keys')")
    assert page.is_enabled("#start")  # for another try
    assert reports == []
