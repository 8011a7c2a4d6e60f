"""The page in a real browser: what a player does and sees."""

import base64
import io
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from browsing import DOT, dot, needs_chromium, press, step, tap, wait_for_dot, wait_until
from PIL import Image

from genie.cli import main
from genie.data.video import read_video, write_video
from genie.serving import ServedWorld, create_server
from genie.world.genie import Genie
from small import TINY

pytestmark = needs_chromium


def test_keys_move_the_dot_and_reset_restores_it(page):
    assert dot(page) == (12, 12)
    assert page.inner_text("#overlay") == "Hold a key from 1 to 4, an arrow or a button"
    assert page.inner_text("#world") == "dots · 24×24 · 60 frames/s · 4 actions"
    for width in (390, 1280):  # the hint hides nothing of the picture
        page.set_viewport_size({"width": width, "height": 800})
        picture, said = (page.locator(part).bounding_box() for part in ("#canvas", "#overlay"))
        assert picture["y"] + picture["height"] <= said["y"]
    page.keyboard.down("2")
    assert wait_for_dot(page, lambda at: at[1] > 14)[0] == 12
    page.keyboard.up("2")
    page.keyboard.down("ArrowDown")
    wait_for_dot(page, lambda at: at[0] > 14)
    assert page.get_by_role("button", name=re.compile("^Action 4")).get_attribute("class") == "held"
    page.keyboard.up("ArrowDown")
    assert step(page) > 4
    assert page.inner_text("#latency").endswith("ms")
    assert not page.is_visible("#overlay")
    page.get_by_role("button", name="Reset").click()
    wait_for_dot(page, lambda at: at == (12, 12))
    assert step(page) == 0


def test_a_tap_is_one_step_and_then_the_world_waits(page):
    tap(page, "ArrowLeft")
    wait_for_dot(page, lambda at: at == (12, 11))
    page.wait_for_timeout(150)
    assert dot(page) == (12, 11)


def test_a_tap_is_one_step_when_the_network_holds_its_release_back(page):
    page.evaluate(
        """() => {
            const { send } = WebSocket.prototype;
            let keys = 0;
            WebSocket.prototype.send = function (data) {
                const late = JSON.parse(data).type === "keys" && keys++ > 0;
                setTimeout(() => send.call(this, data), late ? 100 : 0);
            };
        }"""
    )
    tap(page, "ArrowLeft")
    wait_for_dot(page, lambda at: at == (12, 11))
    page.wait_for_timeout(300)
    assert dot(page) == (12, 11)


def test_a_key_released_in_step_by_step_mode_is_not_held_afterwards(page):
    page.keyboard.down("2")
    wait_for_dot(page, lambda at: at[1] > 14)
    page.keyboard.press("t")
    page.wait_for_selector("#mode[aria-pressed=true]")
    page.keyboard.up("2")
    page.keyboard.press("t")
    page.wait_for_timeout(150)
    at = dot(page)
    page.wait_for_timeout(150)
    assert dot(page) == at


def test_buttons_play_by_mouse_touch_and_keyboard(page):
    button = page.get_by_role("button", name=re.compile("^Action 1"))
    button.tap()
    wait_for_dot(page, lambda at: at[1] < 12)
    button.hover()
    page.mouse.down()
    wait_for_dot(page, lambda at: at[1] < 6)
    page.mouse.up()
    page.wait_for_timeout(100)
    at = dot(page)
    button.focus()
    page.keyboard.press("Space")
    wait_for_dot(page, lambda now: now != at)


def test_the_idle_action_is_played_until_paused(page):
    page.select_option("#idle", label="it continues with action 3")
    wait_for_dot(page, lambda at: at[0] < 10)
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    page.wait_for_selector("#overlay:has-text('Paused')")
    page.wait_for_timeout(150)
    at = dot(page)
    page.wait_for_timeout(150)
    assert dot(page) == at
    page.get_by_role("button", name="Resume").click()
    wait_for_dot(page, lambda now: now != at)


def test_the_gallery_starts_other_pictures(page):
    assert page.get_by_role("button", name=re.compile(r"^Picture \d")).count() == 2
    page.get_by_role("button", name="Picture 2", exact=True).click()
    wait_for_dot(page, lambda at: at == (3, 3))
    tap(page, "ArrowUp")
    wait_for_dot(page, lambda at: at == (2, 3))
    page.keyboard.press("r")
    wait_for_dot(page, lambda at: at == (3, 3))


def test_actions_are_named_and_bound_by_the_player_and_remembered(page):
    page.get_by_role("button", name="Keys of action 4").click()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("textbox", name="Name of action 4").fill("down")
    page.keyboard.press("Escape")
    tap(page, "ArrowLeft")
    wait_for_dot(page, lambda at: at == (13, 12))
    page.reload()
    page.wait_for_selector("#canvas[data-frame]")
    assert page.get_by_role("button", name="Action 4, down, left arrow, down arrow").is_visible()
    assert page.locator("#idle option").last.inner_text() == "it continues with down"
    tap(page, "ArrowLeft")
    wait_for_dot(page, lambda at: at == (13, 12))
    page.get_by_role("button", name="Keys of action 4").click()
    page.keyboard.press("w")
    tap(page, "KeyW")
    wait_for_dot(page, lambda at: at == (14, 12))
    page.get_by_role("button", name="Keys of action 4").click()
    page.keyboard.press("Backspace")
    assert page.get_by_role("button", name="Action 4, down", exact=True).is_visible()


@pytest.mark.parametrize("width", [320, 390, 800, 1600])
def test_nothing_overflows_at_any_width(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#canvas").bounding_box()
    assert box["width"] == pytest.approx(box["height"], abs=1)
    assert box["width"] >= 250


def test_a_lost_server_is_reported_and_reconnected(browser, running, dot_world, dot_prompts):
    page = browser.new_page()
    app = create_server([ServedWorld("world", dot_world, dot_prompts)])
    with running(app) as address:
        page.goto(f"http://{address}/")
        page.wait_for_selector("#canvas[data-frame]")
        dot_world.broken = True
        page.keyboard.press("1")
        page.wait_for_selector("#overlay:has-text('failed to generate')")
        dot_world.broken = False
        page.wait_for_selector("#overlay:has-text('Hold a key')")
        tap(page, "Digit1")
        wait_for_dot(page, lambda at: at == (12, 11))
    page.wait_for_selector("#overlay:has-text('The connection to the server is lost')")
    page.close()


# Clock, undo, branches


def test_step_by_step_a_key_is_one_step_and_undo_takes_it_back(page):
    press(page, "Step by step")
    page.keyboard.down("2")
    wait_for_dot(page, lambda at: at == (12, 13))
    page.wait_for_timeout(150)
    assert dot(page) == (12, 13)
    page.keyboard.up("2")
    page.keyboard.press("4")
    wait_for_dot(page, lambda at: at == (13, 13))
    press(page, "One step")
    wait_for_dot(page, lambda at: at == (14, 13))
    page.keyboard.press("z")
    page.keyboard.press("z")
    wait_for_dot(page, lambda at: at == (12, 13))
    assert (step(page), page.inner_text("#length")) == (1, "0.0 s")
    page.reload()
    page.wait_for_selector("#canvas[data-frame]")
    assert page.inner_text("#overlay") == "Press a key from 1 to 4, an arrow or a button"
    press(page, "Step by step")
    page.keyboard.down("2")
    wait_for_dot(page, lambda at: at[1] > 15)
    page.keyboard.up("2")


def test_undo_in_real_time_pauses_and_takes_half_a_second_back(page):
    page.keyboard.down("2")
    wait_for_dot(page, lambda _: step(page) > 40)
    page.keyboard.up("2")
    page.wait_for_timeout(200)
    played = step(page)
    press(page, "Undo")
    wait_for_dot(page, lambda at: step(page) == played - 30)
    assert dot(page) == (12, (12 + played - 30) % 24)
    assert page.inner_text("#overlay") == "Paused"
    page.keyboard.press("z")
    wait_for_dot(page, lambda at: step(page) == played - 31)


def test_a_branch_keeps_the_original_game_which_can_be_resumed(page):
    press(page, "Step by step")
    page.keyboard.press("2")
    wait_for_dot(page, lambda at: at == (12, 13))
    page.keyboard.press("b")
    page.wait_for_selector("#games:not([hidden])")
    page.keyboard.press("4")
    wait_for_dot(page, lambda at: at == (13, 13))
    press(page, "Game 1, at step 1")
    wait_for_dot(page, lambda at: at == (12, 13))
    page.keyboard.press("1")
    wait_for_dot(page, lambda at: at == (12, 12))
    press(page, "Game 2, at step 2")
    wait_for_dot(page, lambda at: at == (13, 13))
    for _ in range(2):
        press(page, "Branch")
    page.wait_for_selector("#branch[disabled]")
    for number in (1, 2, 3):
        press(page, f"Delete game {number}")
    page.wait_for_selector("#games", state="hidden")
    page.keyboard.press("r")
    wait_for_dot(page, lambda at: at == (12, 12))


def test_the_game_can_run_slower(page):
    page.get_by_label("Speed").select_option("a quarter")
    page.keyboard.press("Escape")
    page.keyboard.down("2")
    wait_until(page, "5 < Number(fps.textContent) && Number(fps.textContent) < 16")
    page.keyboard.up("2")


def test_maskgit_steps_and_temperature_are_set_per_player(page, dot_world):
    page.get_by_text("Advanced").click()
    page.get_by_label("MaskGIT steps").fill("20")
    page.get_by_label("Temperature").fill("0.5")
    page.keyboard.press("Escape")
    tap(page, "Digit2")
    wait_for_dot(page, lambda at: at == (12, 13))
    drawn = [sampling for sampling in dot_world.samplings if sampling is not None]
    assert (drawn[-1].steps, drawn[-1].temperature) == (20, 0.5)
    page.get_by_label("MaskGIT steps").fill("0")
    page.keyboard.press("Escape")
    tap(page, "Digit2")
    wait_for_dot(page, lambda at: at == (12, 14))
    assert dot_world.samplings[-1].steps == 8


def test_guidance_is_there_only_where_a_world_can_be_guided(
    browser, running, dot_world, dot_prompts
):
    for fraction in (0.0, 0.1):
        dynamics = replace(dot_world.config.dynamics, unconditional_fraction=fraction)
        dot_world.config = replace(dot_world.config, dynamics=dynamics)
        with running(create_server([ServedWorld("world", dot_world, dot_prompts)])) as address:
            page = browser.new_page()
            page.goto(f"http://{address}/")
            page.wait_for_selector("#canvas[data-frame]")
            page.get_by_text("Advanced").click()
            assert page.get_by_label("Guidance").is_visible() == (fraction > 0)
            if fraction:
                page.get_by_label("Guidance").fill("2")
                page.keyboard.press("Escape")
                tap(page, "Digit2")
                wait_for_dot(page, lambda at: at == (12, 13))
                assert dot_world.samplings[-1].guidance == 2
            page.close()


def test_a_new_seed_restarts_from_the_same_prompt(browser, running, small_world, prompt):
    """With a real world, whose frames depend on the seed."""
    with running(create_server([ServedWorld("small", small_world, [prompt])])) as address:
        page = browser.new_page()
        page.goto(f"http://{address}/")
        page.wait_for_selector("#canvas[data-frame]")
        press(page, "Step by step")

        def picture():
            return page.evaluate("document.querySelector('canvas').toDataURL()")

        def first_frame(key):
            page.keyboard.press(key)
            wait_until(page, "document.querySelector('#step').textContent === '0'")
            page.keyboard.press("2")
            wait_until(page, "document.querySelector('#step').textContent === '1'")
            return picture()

        one, again, other = first_frame("r"), first_frame("r"), first_frame("n")
        assert one == again
        assert other != one
        page.close()


def test_one_of_several_worlds_is_chosen(dots, browser):
    """The page is told of a second world, which this server does not have."""
    (world,) = httpx.get(f"http://{dots}/worlds").json()
    both = [{**world, "name": "other & more"}, world]
    page, sockets = browser.new_page(), []
    page.on("websocket", lambda socket: sockets.append(socket.url.partition("?")[2]))
    page.route("**/worlds", lambda route: route.fulfill(json=both))
    page.goto(f"http://{dots}/?world=dots")
    page.wait_for_selector("#canvas[data-frame]")
    assert page.title() == "dots · Genie"
    worlds = page.get_by_role("navigation", name="Worlds").get_by_role("link")
    assert worlds.all_inner_texts() == ["other & more", "dots"]
    assert page.locator("#worlds [aria-current]").inner_text() == "dots"
    assert page.evaluate(
        "[...document.querySelectorAll('#worlds img')].every((i) => i.naturalWidth)"
    )
    page.get_by_role("link", name="other & more").click()
    page.wait_for_url("**/?world=other+%26+more")
    wait_until(page, "document.title === 'other & more · Genie'")
    page.wait_for_timeout(200)
    assert sockets[:2] == ["world=dots", "world=other+%26+more"]
    page.close()


# What each key leads to; gamepads


def peeked(page, action):
    """Where the dot is on an on-screen key, once it shows where it leads from the frame shown."""
    wait_until(
        page,
        "a => document.querySelectorAll('#pad canvas')[a].dataset.frame"
        " === document.querySelector('#canvas').dataset.frame",
        arg=action,
    )
    look = DOT.replace('"canvas"', f"\"#pad [data-action='{action}'] canvas\"")
    return tuple(page.evaluate(look))


def test_each_button_shows_a_preview_of_its_action(page):
    ends = [peeked(page, action) for action in range(4)]
    assert ends == [(12, 8), (12, 16), (8, 12), (16, 12)]
    tap(page, "Digit2")
    wait_for_dot(page, lambda at: at == (12, 13))
    assert peeked(page, 3) == (16, 13)
    page.get_by_text("Advanced").click()
    page.get_by_label("preview each action").uncheck()
    assert not page.locator("#pad canvas").first.is_visible()
    page.reload()
    page.wait_for_selector("#canvas[data-frame]")
    assert not page.locator("#pad canvas").first.is_visible()


def test_buttons_do_not_move_when_previews_arrive(page):
    page.reload()
    page.wait_for_selector("#canvas[data-frame]")
    before = page.locator("#pad button").last.bounding_box()
    peeked(page, 3)
    assert page.locator("#pad button").last.bounding_box() == before


GAMEPAD = """() => {
    window.pad = { connected: true, axes: [0, 0],
                   buttons: Array.from({ length: 16 }, () => ({ pressed: false })) };
    navigator.getGamepads = () => [window.pad];
    dispatchEvent(new Event("gamepadconnected"));
}"""


def test_a_gamepad_plays_and_can_be_bound(page):
    page.evaluate(GAMEPAD)
    page.evaluate("pad.buttons[1].pressed = true")
    wait_for_dot(page, lambda at: at[1] > 14)
    page.evaluate("pad.buttons[1].pressed = false; pad.axes[1] = 1")
    wait_for_dot(page, lambda at: at[0] > 14)
    page.evaluate("pad.axes[1] = 0")
    page.wait_for_timeout(100)
    row = dot(page)[0]
    press(page, "Keys of action 1")
    page.evaluate("pad.buttons[5].pressed = true")
    wait_until(page, "document.querySelector('#buttons').textContent.includes('pad 5')")
    page.evaluate("pad.buttons[5].pressed = false")
    page.wait_for_timeout(60)
    column = dot(page)[1]
    page.evaluate("pad.buttons[5].pressed = true")
    wait_for_dot(page, lambda at: at[0] == row and at[1] < column)


# Own pictures


def png_file(name="mine.png", size=(480, 240), at=(240, 120)):
    """A black picture with a white square of 20 pixels, whose middle is at `at`."""
    picture = Image.new("RGB", size)
    picture.paste((255, 255, 255), (at[0] - 10, at[1] - 10, at[0] + 10, at[1] + 10))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": buffer.getvalue()}


def test_an_uploaded_image_is_resized_shown_and_played(page):
    # The middle 240x240 pixels become 24x24: the square is at 130 to 150, 190 to 210.
    page.set_input_files("#file", png_file(at=(120 + 135, 205)))
    page.wait_for_selector("#image-editor[open]")
    fitted = page.evaluate(
        "[...document.querySelector('#fitted').getContext('2d').getImageData(0, 0, 24, 24).data]"
    )
    fitted = np.array(fitted, np.uint8).reshape(24, 24, 4)[..., :3]
    # The dot world sees the place of the brightest pixel alone.
    seen = DOT.replace('"canvas"', '"#reconstruction"')
    wait_until(page, f"({seen})()[0] > 12")
    assert page.evaluate(seen) == list(np.unravel_index(fitted[..., 0].argmax(), (24, 24)))
    press(page, "Play this")
    wait_for_dot(page, lambda at: at[0] in (19, 20) and at[1] in (12, 13, 14))
    shown = page.evaluate(
        "[...document.querySelector('#canvas').getContext('2d').getImageData(0, 0, 24, 24).data]"
    )
    at = np.unravel_index(fitted[..., 0].argmax(), (24, 24))
    assert fitted[..., 0].astype(int).sum() == pytest.approx(4 * 255, rel=0.1)
    assert np.array(shown).reshape(24, 24, 4)[(*at, 0)] == 255
    tap(page, "ArrowUp")
    wait_for_dot(page, lambda now: now == (at[0] - 1, at[1]))
    page.keyboard.press("r")
    wait_for_dot(page, lambda now: now == tuple(at))
    press(page, "Picture 2")
    wait_for_dot(page, lambda now: now == (3, 3))
    press(page, "Own picture 1")
    wait_for_dot(page, lambda now: now == tuple(at))


def test_an_image_can_be_pasted_or_dropped(page):
    for kind, where in (("paste", (60, 120)), ("drop", (180, 30))):
        file = png_file(size=(240, 240), at=where)
        page.evaluate(
            """([kind, bytes]) => {
                const transfer = new DataTransfer();
                const type = "image/png";
                transfer.items.add(new File([new Uint8Array(bytes)], "a.png", { type }));
                const data = { clipboardData: transfer, dataTransfer: transfer };
                dispatchEvent(Object.assign(new Event(kind, { cancelable: true }), data));
            }""",
            [kind, list(file["buffer"])],
        )
        page.wait_for_selector("#image-editor[open]")
        press(page, "Play this")
        row, column = where[1] // 10, where[0] // 10
        wait_for_dot(page, lambda at, r=row, c=column: abs(at[0] - r) < 2 and abs(at[1] - c) < 2)


def test_a_prompt_can_be_drawn_with_mouse_or_keys(page):
    press(page, "Draw…")
    page.fill("#colour", "#000000")
    press(page, "Fill")
    page.fill("#colour", "#ffffff")
    page.fill("#brush", "1")
    box = page.locator("#fitted").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 5.5 / 24, box["y"] + box["height"] * 7.5 / 24)
    press(page, "Play this")
    wait_for_dot(page, lambda at: at == (7, 5))
    press(page, "Draw…")
    press(page, "Cancel")
    assert dot(page) == (7, 5)
    press(page, "Draw…")
    page.fill("#colour", "#000000")
    press(page, "Fill")
    page.fill("#colour", "#ffffff")
    page.focus("#fitted")
    for key in ["ArrowLeft"] * 2 + ["ArrowDown", "Space"]:
        page.keyboard.press(key)
    press(page, "Play this")
    wait_for_dot(page, lambda at: at == (13, 10))


def test_a_frame_of_a_video_can_be_picked(page, tmp_path):
    frames = np.zeros((20, 48, 48, 3), np.uint8)
    for i, frame in enumerate(frames):
        frame[2 * i : 2 * i + 4, 20:24] = 255
    path = write_video(tmp_path / "film.mp4", frames, 10, pixel_format="yuv420p")
    page.set_input_files("#file", path)
    page.wait_for_selector("#image-editor[open]")
    assert page.is_visible("#frame")
    page.fill("#frame", "1.55")
    wait_until(
        page,
        "fitted.getContext('2d').getImageData(11, 16, 1, 1).data[0] > 200",
    )
    press(page, "Play this")
    wait_for_dot(page, lambda at: at[0] in (15, 16) and at[1] in (10, 11))


SEEK_AND_PAINT = """how => {
    frame.value = 1.55;
    frame.dispatchEvent(new Event("input"));
    if (how === "fill") fill.click();
    else fitted.dispatchEvent(new KeyboardEvent("keydown", { code: "Space" }));
}"""


@pytest.mark.parametrize("how", ["fill", "brush"])
def test_a_late_video_frame_does_not_cover_the_painting(page, tmp_path, how):
    frames = np.full((20, 48, 48, 3), 20, np.uint8)
    path = write_video(tmp_path / "film.mp4", frames, 10, pixel_format="yuv420p")
    page.set_input_files("#file", path)
    page.wait_for_selector("#image-editor[open]")
    page.fill("#colour", "#ff0000")
    page.evaluate(SEEK_AND_PAINT, how)
    page.wait_for_timeout(300)
    middle = "[...fitted.getContext('2d').getImageData(12, 12, 1, 1).data]"
    assert page.evaluate(middle) == [255, 0, 0, 255]
    page.fill("#frame", "0.5")  # the next frame that is asked for comes
    wait_until(page, middle + "[0] < 50")


def test_a_file_that_is_not_an_image_is_reported(page):
    broken = {"name": "a.png", "mimeType": "image/png", "buffer": b"no"}
    page.set_input_files("#file", broken)
    page.wait_for_selector("#save-status:has-text('a.png cannot be read')")


# Keeping a game


@pytest.fixture(scope="module")
def small_world():
    torch.manual_seed(0)
    return Genie(TINY).eval()


@pytest.fixture(scope="module")
def prompt():
    return np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


@pytest.mark.parametrize("ending", ["mp4", "gif"])
def test_the_last_minute_is_saved_as_a_video(page, tmp_path, ending):
    page.keyboard.down("2")
    wait_for_dot(page, lambda _: step(page) > 10)
    page.keyboard.up("2")
    page.wait_for_timeout(100)
    with page.expect_download() as download:
        press(page, re.compile(ending.upper()))
    path = tmp_path / f"film.{ending}"
    download.value.save_as(path)
    assert len(list(read_video(path))) == step(page) + 1


SHOWN = """() => {
    const canvas = document.querySelector("canvas");
    return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
}"""


def canvas(page):
    return np.array(page.evaluate(SHOWN), np.uint8).reshape(16, 16, 4)[..., :3]


def test_a_game_made_in_the_browser_plays_back_identically_from_the_command_line(
    browser, running, small_world, prompt, tmp_path, capsys
):
    """Own picture, changed sampling, undo and branch on the way: the same frames, to the pixel."""
    small_world.save_pretrained(tmp_path / "small")
    page = browser.new_page()
    with running(create_server([ServedWorld("small", small_world, [prompt])])) as address:
        page.goto(f"http://{address}/")
        page.wait_for_selector("#canvas[data-frame]")
        before = page.get_attribute("#canvas", "data-frame")
        page.set_input_files("#file", png_file(at=(250, 100)))
        page.wait_for_selector("#image-editor[open]")
        press(page, "Play this")
        wait_until(page, f"document.querySelector('#canvas').dataset.frame !== '{before}'")
        press(page, "Step by step")
        frames = []

        def after(steps):
            wait_until(page, f"document.querySelector('#step').textContent === '{steps}'")
            page.wait_for_timeout(50)
            del frames[steps:]
            frames.append(canvas(page))

        after(0)
        for count, key in enumerate("2431142341", start=1):
            page.keyboard.press(key)
            after(count)
        for count in (9, 8):
            page.keyboard.press("z")
            after(count)
        page.keyboard.press("b")
        page.wait_for_selector("#games:not([hidden])")
        page.evaluate("document.querySelector('details').open = true")
        page.get_by_label("Temperature").fill("3")
        page.keyboard.press("Escape")
        for count, key in enumerate("3312", start=9):
            page.keyboard.press(key)
            after(count)
        with page.expect_download() as download:
            page.get_by_role("button", name="Replay", exact=True).click()
        file = tmp_path / "game.json"
        download.value.save_as(file)
        page.close()

        command = ["replay", str(file), "--world", str(tmp_path / "small"), "--scale", "1"]
        assert main.main([*command, "--device", "cpu", "--out", str(tmp_path / "f.png")]) == 0
        written = [np.asarray(Image.open(Path(path))) for path in capsys.readouterr().out.split()]
        assert len(frames) == 13
        np.testing.assert_array_equal(np.stack(written), np.stack(frames))
        assert len(json.loads(file.read_text())["sampling"]) == 2

        again = browser.new_page()
        again.goto(f"http://{address}/")
        again.wait_for_selector("#canvas[data-frame]")
        again.set_input_files("#replay", file)
        wait_until(again, "document.querySelector('#step').textContent === '12'")
        again.wait_for_timeout(100)
        np.testing.assert_array_equal(canvas(again), frames[-1])
        again.close()


def test_a_link_opens_the_same_game(page, browser):
    press(page, "Picture 2")
    press(page, "Step by step")
    for key in "2224":
        page.keyboard.press(key)
    wait_for_dot(page, lambda at: at == (4, 6))
    wait_until(page, "document.querySelector('#step').textContent === '4'")
    press(page, "Link")
    page.wait_for_selector("#link-field:not([hidden])")
    link = page.input_value("#link")
    assert len(link) < 500
    assert "/?world=dots#game=" in link
    other = browser.new_page()
    other.goto(link)
    wait_until(other, "document.querySelector('#step').textContent === '4'")
    wait_for_dot(other, lambda at: at == (4, 6))
    assert other.inner_text("#overlay") == "Paused"
    press(other, "Resume")
    tap(other, "Digit1")
    wait_for_dot(other, lambda at: at == (4, 5))
    press(other, "Reset")
    wait_for_dot(other, lambda at: at == (3, 3))
    other.goto(link.split("#")[0] + "#game=nonsense")
    other.reload()
    other.wait_for_selector("#save-status:has-text('damaged')")
    wait_for_dot(other, lambda at: at == (12, 12))
    other.close()


def linked(game: dict) -> str:
    packed = zlib.compress(json.dumps(game).encode(), wbits=-15)
    return "#game=" + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def test_a_link_of_another_world_is_refused_with_a_message(dots, browser):
    page = browser.new_page()
    page.goto(f"http://{dots}/{linked({'prompt': 0, 'seed': 1, 'actions': [1], 'hash': '0'})}")
    page.wait_for_selector("#canvas[data-frame]")
    page.wait_for_selector("#overlay:has-text('another world')")
    tap(page, "Digit2")
    wait_for_dot(page, lambda at: at == (12, 13))
    page.wait_for_selector("#overlay", state="hidden")
    page.close()


@pytest.mark.parametrize(
    "game", [{"prompt": "x", "seed": 1}, {"prompt": 0, "seed": 1, "actions": [99]}, {}]
)
def test_an_invalid_link_is_tried_only_once(dots, browser, game):
    page = browser.new_page()
    page.goto(f"http://{dots}/{linked(game)}")
    page.wait_for_selector("#canvas[data-frame]")
    wait_for_dot(page, lambda at: at == (12, 12))
    tap(page, "Digit2")
    wait_for_dot(page, lambda at: at == (12, 13))
    page.close()


def test_a_replay_of_another_world_is_refused_with_a_message(page, tmp_path):
    file = tmp_path / "other.json"
    game = {"format": "genie-replay", "prompt": 0, "seed": 1, "actions": [], "hash": "0"}
    file.write_text(json.dumps(game))
    page.set_input_files("#replay", file)
    page.wait_for_selector("#overlay:has-text('another world')")
    tap(page, "Digit2")
    wait_for_dot(page, lambda at: at == (12, 13))
    file.write_text("[]")
    page.set_input_files("#replay", file)
    page.wait_for_selector("#save-status:has-text('not a replay')")


# Measurements, labels, colours


def test_a_machine_that_is_too_slow_is_reported(page, dot_world):
    assert not page.is_visible("#warning")
    dot_world.seconds = 0.05
    page.keyboard.down("2")
    page.wait_for_selector("#warning:not([hidden])")
    assert re.search(r"generates 1?\d\.\d of 60 frames/s", page.inner_text("#warning"))
    page.keyboard.up("2")
    page.wait_for_selector("#warning", state="hidden")


def test_a_world_that_is_being_compiled_is_reported(page, dot_world):
    dot_world.seconds = 3
    page.keyboard.down("2")
    page.wait_for_selector("#warning:has-text('may still be compiling')")
    dot_world.seconds = 0
    page.wait_for_selector("#warning", state="hidden")
    page.keyboard.up("2")


def test_everything_is_labelled_and_reached_by_keyboard(page):
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, [role=application]")]
            .filter((part) => !part.hidden && !part.ariaLabel && !part.textContent.trim())
            .filter((part) => !part.labels?.length && !part.getAttribute("aria-labelledby"))
            .map((part) => part.outerHTML)"""
    )
    assert unnamed == []
    assert page.get_attribute("#announcer", "aria-live") == "polite"
    page.keyboard.press("b")
    wait_until(page, "document.querySelector('#announcer').textContent.includes('Branched')")
    reached = set()
    page.focus("#screen")
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.ariaLabel"))
    wanted = {
        "mode",
        "pause",
        "undo",
        "branch",
        "reseed",
        "upload",
        "draw",
        "save",
        "share",
        "idle",
    }
    assert wanted <= reached
    assert {"Action 1, left arrow", "Picture 2", "Name of action 2"} <= reached


def test_light_and_dark_follow_the_system(page):
    colours = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colours[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light, dark = (
        sum(map(int, re.findall(r"\d+", colours[scheme])[:3])) for scheme in ("light", "dark")
    )
    assert light > 600 > 200 > dark
