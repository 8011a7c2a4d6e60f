"""Names of buttons on the page: the browser's own, and those in the world's folder."""

import json

import pytest
from browsing import needs_chromium, press

pytestmark = needs_chromium


@pytest.fixture
def kept(browser, dots):
    """A page of a world whose server keeps names, the names, and what was sent to keep them."""
    page, sent = browser.new_page(), []
    names = ["", "fast", "", ""]

    def worlds(route):
        (world,) = route.fetch().json()
        route.fulfill(json=[{**world, "names": names, "can_name": True}])

    def keep(route):
        sent.append((route.request.method, json.loads(route.request.post_data)))
        names[:] = [name.strip() for name in sent[-1][1]["names"]]
        route.fulfill(json={"names": names})

    page.route("**/worlds", worlds)
    page.route("**/worlds/dots/names", keep)
    page.goto(f"http://{dots}/")
    page.wait_for_selector("#canvas[data-frame]")
    yield page, names, sent
    page.close()


def label(page, action):
    return page.inner_text(f"#pad [data-action='{action}'] span")


def name(page, action, words):
    page.get_by_role("textbox", name=f"Name of action {action + 1}").fill(words)
    page.keyboard.press("Escape")


def test_names_that_come_with_the_world_are_the_defaults_under_the_players_own(kept):
    page, _, _ = kept
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


def test_names_are_kept_in_the_worlds_folder_on_request(kept):
    page, names, sent = kept
    name(page, 3, "duck ")
    assert sent == []
    press(page, "Keep the names in the world’s folder")
    page.wait_for_selector("#named:has-text('come with it from now on')")
    assert sent == [("PUT", {"names": ["", "fast", "", "duck"]})]
    page.evaluate("localStorage.clear()")
    page.reload()
    page.wait_for_selector("#canvas[data-frame]")
    assert (label(page, 1), label(page, 3)) == ("fast", "duck")
    names[3] = "bend"
    page.reload()
    page.wait_for_selector("#canvas[data-frame]")
    assert label(page, 3) == "bend", "the browser holds no old copy"


def test_a_refusal_to_keep_names_is_said_and_they_stay_in_the_browser(kept):
    page, _, _ = kept
    page.route(
        "**/worlds/dots/names",
        lambda route: route.fulfill(status=403, json={"detail": "Not here."}),
    )
    name(page, 0, "left")
    press(page, "Keep the names in the world’s folder")
    page.wait_for_selector("#named:has-text('Not here.')")
    page.reload()
    page.wait_for_selector("#canvas[data-frame]")
    assert label(page, 0) == "left"


def test_without_leave_to_keep_names_nothing_is_offered(page):
    assert not page.is_visible("#keep-names")
