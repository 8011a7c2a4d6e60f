"""Names of buttons on the page: the browser's own, and those in the world's folder."""

import json

import pytest
from browsing import needs_chromium, press

from genie.serving.service import ServedWorld

pytestmark = needs_chromium


@pytest.fixture
def kept(page_of, dot_world, dot_prompts, tmp_path):
    """A page of a world in whose folder one button has a name, and the file with the names."""
    file = tmp_path / "names.json"
    file.write_text(json.dumps({"names": ["", "fast", "", ""]}))
    world = ServedWorld("dots", dot_world, dot_prompts, folder=tmp_path, can_name=True)
    with page_of(world) as page:
        yield page, file


def names_in(file):
    return json.loads(file.read_text())["names"]


def label(page, action):
    return page.inner_text(f"#pad [data-action='{action}'] span")


def name(page, action, words):
    page.get_by_role("textbox", name=f"Name of action {action + 1}").fill(words)
    page.keyboard.press("Escape")


def test_names_of_the_world_are_defaults_for_the_players_own(kept):
    page, _ = kept
    assert label(page, 1) == "fast"
    assert page.get_by_role("textbox", name="Name of action 2").input_value() == "fast"
    name(page, 1, "run")
    assert label(page, 1) == "run"
    page.reload()
    page.wait_for_selector("#canvas[data-frame]")
    assert label(page, 1) == "run"
    name(page, 1, "")
    assert label(page, 1) == "2"
    page.reload()
    page.wait_for_selector("#canvas[data-frame]")
    assert label(page, 1) == "2"
    name(page, 1, "fast")
    assert label(page, 1) == "fast"


def test_arrows_play_the_actions_that_the_world_names(kept):
    page, _ = kept
    keys = "#buttons li:nth-child({}) button"
    assert "←" in page.inner_text(keys.format(1)), "no name says where an action leads"
    for action, words in enumerate(("", "Right", "jump", "left")):
        name(page, action, words)
    press(page, "Save the names with the world")
    page.wait_for_selector("#names-status:has-text('saved with the world')")
    page.evaluate("localStorage.clear()")
    page.reload()
    page.wait_for_selector("#canvas[data-frame]")
    shown = [page.inner_text(keys.format(action + 1)) for action in range(4)]
    assert shown == ["pad 0", "→ pad 1", "↑ pad 2", "← pad 3"]


def test_names_are_saved_in_the_worlds_folder_on_request(kept):
    page, file = kept
    name(page, 3, "duck ")
    assert names_in(file) == ["", "fast", "", ""]
    press(page, "Save the names with the world")
    page.wait_for_selector("#names-status:has-text('saved with the world')")
    assert names_in(file) == ["", "fast", "", "duck"]
    own = page.evaluate("JSON.parse(localStorage['genie.buttons.dots']).names")
    assert own == [None] * 4, "later names of the world would be hidden by an old copy"
    page.evaluate("localStorage.clear()")
    page.reload()
    page.wait_for_selector("#canvas[data-frame]")
    assert (label(page, 1), label(page, 3)) == ("fast", "duck")


def test_a_refusal_to_save_names_is_shown_and_they_stay_in_the_browser(kept):
    page, _ = kept
    page.route(
        "**/worlds/dots/names",
        lambda route: route.fulfill(status=403, json={"detail": "Not here."}),
    )
    name(page, 0, "left")
    press(page, "Save the names with the world")
    page.wait_for_selector("#names-status:has-text('Not here.')")
    page.reload()
    page.wait_for_selector("#canvas[data-frame]")
    assert label(page, 0) == "left"


def test_saving_names_is_not_offered_without_permission(page):
    assert not page.is_visible("#save-names")
