"""The page in a real browser: what a player does and sees."""

import shutil
import time

import pytest

from genie.serving import create_app

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium was found"),
]
# Row and column of the brightest pixel of the canvas, which is the dot.
DOT = """() => {
    const canvas = document.querySelector("canvas"), { width, height } = canvas;
    const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    let brightest = 0;
    for (let i = 0; i < pixels.length; i += 4) if (pixels[i] > pixels[brightest]) brightest = i;
    return [Math.floor(brightest / 4 / width), (brightest / 4) % width];
}"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, dots):
    """The page with a game begun; fails on script errors and on requests to anyone else."""
    context = browser.new_context(has_touch=True)
    context.set_default_timeout(10_000)
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))
    page.on(
        "request", lambda r: f"//{dots}/" in r.url or r.url[:5] == "blob:" or errors.append(r.url)
    )
    page.goto(f"http://{dots}/")
    page.wait_for_selector("#canvas[data-frame]")
    yield page
    context.close()
    assert errors == []


def dot(page):
    return tuple(page.evaluate(DOT))


def wait_for_dot(page, where):
    """Waits until the dot satisfies a condition; returns its place."""
    deadline = time.monotonic() + 5
    while not where(dot(page)):
        assert time.monotonic() < deadline, f"the dot stays at {dot(page)}"
        page.wait_for_timeout(20)
    return dot(page)


def tap(page, code):
    """Presses and releases a key at once, however busy this machine is."""
    page.evaluate(
        """code => {
            for (const type of ["keydown", "keyup"])
                document.body.dispatchEvent(new KeyboardEvent(type, { code, bubbles: true }));
        }""",
        code,
    )


def step(page):
    return int(page.inner_text("#step"))


def test_keys_move_the_picture_and_reset_restores_it(page):
    assert dot(page) == (12, 12)
    assert page.inner_text("#overlay") == "Hold a key from 1 to 4, an arrow or a button"
    page.keyboard.down("2")
    assert wait_for_dot(page, lambda at: at[1] > 14)[0] == 12
    page.keyboard.up("2")
    page.keyboard.down("ArrowDown")
    wait_for_dot(page, lambda at: at[0] > 14)
    assert page.get_by_role("button", name="Action 4").get_attribute("class") == "held"
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


def test_buttons_play_by_mouse_touch_and_keyboard(page):
    button = page.get_by_role("button", name="Action 1")
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


def test_the_idle_action_runs_on_until_paused(page):
    page.select_option("#idle", label="it runs on with action 3")
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
    assert page.get_by_role("button", name="Picture").count() == 2
    page.get_by_role("button", name="Picture 2").click()
    wait_for_dot(page, lambda at: at == (3, 3))
    tap(page, "ArrowUp")
    wait_for_dot(page, lambda at: at == (2, 3))
    page.keyboard.press("r")
    wait_for_dot(page, lambda at: at == (3, 3))


def test_arrows_are_bound_by_the_player_and_remembered(page):
    page.get_by_role("combobox", name="Left arrow plays").select_option("3")
    page.keyboard.press("Escape")
    tap(page, "ArrowLeft")
    wait_for_dot(page, lambda at: at == (13, 12))
    page.reload()
    page.wait_for_selector("#canvas[data-frame]")
    assert page.get_by_role("button", name="Action 4, left arrow, down arrow").is_visible()
    tap(page, "ArrowLeft")
    wait_for_dot(page, lambda at: at == (13, 12))


@pytest.mark.parametrize("width", [320, 390, 800, 1600])
def test_nothing_sticks_out_at_any_width(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#canvas").bounding_box()
    assert box["width"] == pytest.approx(box["height"], abs=1)
    assert box["width"] >= 250


def test_a_lost_server_is_said_and_found_again(browser, running, dot_world, dot_prompts):
    page = browser.new_page()
    app = create_app(dot_world, dot_prompts)
    with running(app) as address:
        page.goto(f"http://{address}/")
        page.wait_for_selector("#canvas[data-frame]")
        dot_world.broken = True
        page.keyboard.press("1")
        page.wait_for_selector("#overlay:has-text('failed to draw')")
        dot_world.broken = False
        page.wait_for_selector("#overlay:has-text('Hold a key')")
        tap(page, "Digit1")
        wait_for_dot(page, lambda at: at == (12, 11))
    page.wait_for_selector("#overlay:has-text('The server is gone')")
    page.close()
