"""Buttons of the page by what the actions were measured to do."""

import json

import pytest
from browsing import dot, needs_chromium, tap, wait_for_dot

from genie.serving import create_server
from genie.serving.service import ServedWorld
from genie.world.action_groups import ActionGroup, ActionGroups, Directions, write_groups

pytestmark = needs_chromium


def group(name, *actions, distinct=True):
    ways = Directions(*[0.0] * 5)
    effect = f"Scrolls as {name} does."
    return ActionGroup(actions, name, effect, 0.9, ways, (0.0, 0.0), distinct)


GROUPS = (group("right", 1, 2), group("left", 0), group("", 3, distinct=False))


@pytest.fixture
def measured(page_of, dot_world, dot_prompts, tmp_path):
    """A page of a world of four actions: 2 does the same as 1, and 3 nothing of its own."""
    write_groups(tmp_path, ActionGroups(96, 8, 0.0, GROUPS, ()))
    world = ServedWorld("dots", dot_world, dot_prompts, folder=tmp_path, can_name=True)
    with page_of(world) as page:
        yield page


def shown(page, inside):
    return [i for i, item in enumerate(page.query_selector_all(inside)) if item.is_visible()]


def test_each_group_has_one_button_with_its_name_and_effect(measured):
    assert shown(measured, "#pad > button") == [0, 1]
    assert measured.inner_text("#world") == "dots · 24×24 · 60 frames/s · 2 different actions"
    button = measured.query_selector("#pad [data-action='1']")
    assert button.query_selector("span").inner_text() == "right"
    assert button.get_attribute("title") == "Scrolls as right does."
    assert button.get_attribute("aria-label") == "Action 2, right, right arrow"
    assert shown(measured, "#buttons > li") == [0, 1]
    assert "Scrolls as right does." in measured.inner_text("#buttons li:nth-child(2)")
    assert measured.eval_on_selector_all("#idle option", "all => all.length") == 3


def test_all_actions_are_shown_on_request(measured):
    measured.click("summary")
    measured.check("#all-actions")
    assert shown(measured, "#pad > button") == [0, 1, 2, 3]
    titles = measured.eval_on_selector_all("#pad button", "all => all.map((one) => one.title)")
    assert titles[2:] == ["Does the same as right.", "No effect of its own was measured."]
    assert measured.eval_on_selector_all("#idle option", "all => all.length") == 5
    measured.uncheck("#all-actions")
    assert shown(measured, "#pad > button") == [0, 1]


def test_keys_play_every_action_and_arrows_those_of_that_effect(measured):
    row, column = dot(measured)
    tap(measured, "ArrowRight")
    wait_for_dot(measured, lambda place: place == (row, column + 1))
    tap(measured, "ArrowLeft")
    wait_for_dot(measured, lambda place: place == (row, column))
    tap(measured, "Digit4")
    wait_for_dot(measured, lambda place: place == (row + 1, column))


def test_own_names_win_and_names_made_from_effects_are_not_saved(measured, tmp_path):
    measured.get_by_role("textbox", name="Name of action 1").fill("back")
    measured.keyboard.press("Escape")
    assert measured.inner_text("#pad [data-action='0'] span") == "back"
    measured.click("#save-names")
    measured.wait_for_selector("#names-status:has-text('saved with the world')")
    assert json.loads((tmp_path / "names.json").read_text())["names"] == ["back", "", "", ""]
    assert measured.inner_text("#pad [data-action='1'] span") == "right"


def test_without_measured_effects_every_action_has_a_button(page):
    assert shown(page, "#pad > button") == [0, 1, 2, 3]
    assert not page.query_selector("#pad button").get_attribute("title")
    page.click("summary")
    assert not page.is_visible("#all-actions")


def test_an_arrow_plays_the_action_that_the_world_names_before_one_of_that_effect(
    browser, running, dot_world, dot_prompts, tmp_path
):
    write_groups(
        tmp_path,
        ActionGroups(96, 8, 0.0, (group("up", 0), group("up 2", 2), group("down", 1, 3)), ()),
    )
    (tmp_path / "names.json").write_text(json.dumps({"names": ["", "", "jump", ""]}))
    world = ServedWorld("dots", dot_world, dot_prompts, folder=tmp_path)
    page = browser.new_page()
    with running(create_server([world])) as address:
        page.goto(f"http://{address}/")
        page.wait_for_selector("#canvas[data-frame]")
        keys = page.eval_on_selector_all("#buttons li button", "all => all.map(k => k.textContent)")
        page.close()
    assert ["↑" in shown for shown in keys] == [False, False, True, False]
