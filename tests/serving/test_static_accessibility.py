"""The page for those who do not see it, or not well: labels, contrast, the keyboard alone."""

import re

import pytest
from browsing import dot, needs_chromium, press, tap, wait_for_dot, wait_until

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
pytestmark = needs_chromium


def problems(page):
    """What axe-core finds, and where."""
    found = axe.Axe().run(page).response["violations"]
    return {
        f"{rule['id']} ({rule['impact']})": [node["html"][:100] for node in rule["nodes"]]
        for rule in found
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing(page, scheme, width):
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    wait_until(page, "document.querySelector('#pad canvas').dataset.frame > 0")
    assert problems(page) == {}
    page.evaluate("document.querySelector('details').open = true")
    press(page, "Step by step")
    press(page, "Branch")
    page.wait_for_selector("#games:not([hidden])")
    press(page, "Link")
    page.wait_for_selector("#link-field:not([hidden])")
    for part in ("naming", "real", "real-hint"):
        page.evaluate("id => { document.getElementById(id).hidden = false; }", part)
    page.evaluate("document.querySelector('#worlds-section').hidden = false")
    for hidden in ("warning", "again"):
        page.evaluate("id => document.getElementById(id).hidden = false", hidden)
        page.evaluate("id => document.getElementById(id).textContent = 'Words'", hidden)
    press(page, "Keys of action 2")
    assert problems(page) == {}
    press(page, "Draw…")
    page.wait_for_selector("#image-editor[open]")
    assert problems(page) == {}


def test_a_game_with_the_keyboard_alone(page):
    """From the top: to the game, past it to the pictures, a drawing, and back."""

    def tab_to(part):
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", part):
                return
        raise AssertionError(f"{part} is not reached")

    tab_to("#screen")
    tap(page, "Digit2")
    wait_for_dot(page, lambda at: at == (12, 13))
    tab_to("#pad button")
    tap(page, "Enter")
    wait_for_dot(page, lambda at: at == (12, 12))
    tab_to("#undo")
    page.keyboard.press("Space")
    page.wait_for_selector("#overlay:has-text('Paused')")
    tab_to("#gallery button:nth-child(2)")
    page.keyboard.press("Enter")
    wait_for_dot(page, lambda at: at == (3, 3))
    tab_to("#draw")
    page.keyboard.press("Enter")
    page.wait_for_selector("#image-editor[open]")
    page.keyboard.press("Escape")
    wait_until(page, "document.activeElement.id === 'draw'")
    tab_to("#buttons li:nth-child(3) button")
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    assert page.get_by_role("button", name="Action 3, up arrow, Space").is_visible()
    tab_to("#idle")
    page.keyboard.press("Escape")
    tap(page, "Space")
    wait_for_dot(page, lambda at: at == (2, 3))
    tab_to("#save")
    with page.expect_download():
        page.keyboard.press("Space")  # works the button, and does not play
    assert dot(page) == (2, 3)


def test_the_keyboard_still_plays_after_a_click(page):
    press(page, "Keys of action 3")
    page.keyboard.press("Space")
    press(page, "Reset")
    tap(page, "Space")
    wait_for_dot(page, lambda at: at == (11, 12))
    press(page, re.compile("^Action 1"))
    wait_for_dot(page, lambda at: at == (11, 11))
    tap(page, "Space")
    wait_for_dot(page, lambda at: at == (10, 11))


def test_a_screen_reader_is_silent_during_play(page):
    page.evaluate(
        """() => {
            window.said = [];
            const hear = () => said.push(document.activeElement.id);
            for (const region of document.querySelectorAll("[role=status], [aria-live]"))
                new MutationObserver(hear).observe(region, { childList: true, characterData: true,
                    attributes: true, subtree: true });
        }"""
    )
    page.keyboard.down("2")
    wait_until(page, "Number(document.querySelector('#step').textContent) > 30")
    page.keyboard.up("2")
    wait_until(page, "document.querySelector('#pad canvas').dataset.frame > 0")
    assert page.evaluate("said") == []
    press(page, "Pause")
    assert len(page.evaluate("said")) == 1
