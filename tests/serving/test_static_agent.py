"""An agent plays on the page, until the player does."""

import pytest
from autoplaying import Always
from browsing import dot, needs_chromium, press, step, tap, wait_for_dot, wait_until

from genie.serving.service import ServedWorld

pytestmark = needs_chromium
BARS = """() => [...document.querySelectorAll("#pad.with-chances > button")].map(
    (button) => Number(button.style.getPropertyValue("--chance")))"""


@pytest.fixture
def page(page_of, dot_world, dot_prompts):
    with page_of(ServedWorld("dots", dot_world, dot_prompts, agent=Always(1))) as made:
        yield made


def test_an_agent_plays_with_its_chances_as_bars_until_the_player_takes_over(page):
    assert dot(page) == (12, 12)
    press(page, "Let it play")
    wait_for_dot(page, lambda at: at[1] > 14)
    assert page.evaluate(BARS) == [0.1, 0.6, 0.2, 0.1]
    assert page.get_attribute("#agent", "aria-pressed") == "true"
    tap(page, "Digit1")
    wait_until(page, "() => document.getElementById('agent').ariaPressed == 'false'")
    assert page.evaluate(BARS) == []
    page.wait_for_timeout(150)
    at, steps = dot(page), step(page)
    page.wait_for_timeout(300)
    assert (dot(page), step(page)) == (at, steps)
    page.keyboard.press("l")
    wait_until(
        page, "before => Number(document.getElementById('step').textContent) > before", steps
    )
    press(page, "Step by step")
    assert page.get_attribute("#agent", "aria-pressed") == "false"
