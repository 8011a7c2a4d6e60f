"""Buttons and keys by the names of the real game."""

import json

import pytest
from autoplaying import Always
from browsing import dot, needs_chromium, press, tap, wait_for_dot, wait_until

from genie.serving.service import ServedWorld
from genie.world.action_mapper import ActionMapper, MapperConfig

pytestmark = needs_chromium
NAMES = ("down", "left", "right", "up", "right+up")
SHOWN = """inside => [...document.querySelectorAll(inside)].filter((one) => one.offsetParent)
    .map((one) => one.querySelector("span").textContent)"""


@pytest.fixture
def page(page_of, dot_world, dot_prompts, monkeypatch):
    """A page of a game in which left is latent action 1, which moves right, and so on; no label
    has down."""
    mapper = ActionMapper(MapperConfig("dictionary", NAMES, 4, "dots", 4))
    mapper.counts[[1, 0, 2, 3], [1, 2, 3, 4]] = 1
    monkeypatch.setattr("genie.serving.service.read_mapper", lambda folder, world: mapper)
    with page_of(ServedWorld("dots", dot_world, dot_prompts, agent=Always(1))) as made:
        yield made


def switched(page):
    return page.get_attribute("#real", "aria-pressed") == "true"


def test_a_switch_puts_the_buttons_of_the_real_game_in_the_place_of_learned_ones(page):
    assert len(page.evaluate(SHOWN, "#pad > button")) == 4
    assert not switched(page)
    press(page, "Real actions")
    assert switched(page)
    assert page.evaluate(SHOWN, "#pad > button") == ["left", "right", "up", "right+up"]
    assert page.evaluate(SHOWN, "#buttons > li") == ["left", "right", "up", "right+up"]
    assert page.is_visible("#real-hint")
    button = page.get_by_role("button", name="Real action, left, left arrow", exact=True)
    assert button.is_visible()
    page.wait_for_selector("#pad [data-action='4'] canvas[data-frame]")  # its preview
    assert page.locator("#idle option").last.inner_text() == "it continues with right+up"
    tap(page, "ArrowLeft")
    wait_for_dot(page, lambda at: at == (12, 13))
    tap(page, "Digit4")
    wait_for_dot(page, lambda at: at == (13, 13))
    button.click()
    wait_for_dot(page, lambda at: at[1] > 13)
    page.reload()
    page.wait_for_selector("#canvas[data-frame]")
    assert switched(page)
    page.keyboard.press("a")
    assert not switched(page)
    assert len(page.evaluate(SHOWN, "#pad > button")) == 4
    tap(page, "Digit1")
    wait_for_dot(page, lambda at: at == (12, 11))


def test_keys_that_are_held_together_are_the_games_one_action_for_both(page):
    press(page, "Real actions")
    press(page, "Step by step")
    page.keyboard.down("ArrowRight")
    wait_for_dot(page, lambda at: at == (12, 11))
    page.keyboard.down("ArrowUp")
    wait_for_dot(page, lambda at: at == (13, 11))
    assert page.get_attribute("#pad [data-action='7']", "class") == "held"
    page.keyboard.up("ArrowUp")  # the other key is still held, which is no new press
    page.keyboard.up("ArrowRight")
    page.wait_for_timeout(200)
    assert dot(page) == (13, 11)
    wait_until(page, "() => document.getElementById('step').textContent == '2'")
    with page.expect_download() as download:
        page.click("#save")
    assert json.loads(download.value.path().read_text())["actions"] == [0, 3]


def test_keys_of_real_actions_are_bound_beside_those_of_learned_ones(page):
    press(page, "Real actions")
    page.get_by_role("button", name="Keys of up").click()
    page.keyboard.press("w")
    tap(page, "KeyW")
    wait_for_dot(page, lambda at: at == (11, 12))
    press(page, "Real actions")
    assert page.get_by_role("button", name="Keys of action 1: left arrow").is_visible()
    assert "W" not in page.locator("#buttons li:visible button").all_inner_texts()


def test_chances_of_an_agent_are_of_learned_actions_only(page):
    press(page, "Real actions")
    press(page, "Let it play")
    wait_for_dot(page, lambda at: at[1] > 14)
    assert page.query_selector("#pad.with-chances") is None
    press(page, "Real actions")
    page.wait_for_selector("#pad.with-chances")
