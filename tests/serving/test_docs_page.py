"""The page that describes the HTTP interface, and the way in with a token, in a real browser."""

import json
import os

import pytest
from browsing import needs_chromium, wait_until
from PIL import Image

from genie.serving import create_server
from genie.serving.http.auth import AuthConfig
from genie.serving.service import ServedWorld

pytestmark = needs_chromium


@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (390, "dark")])
def test_the_interface_is_described_and_can_be_tried(
    browser, running, dot_world, dot_prompts, width, scheme, tmp_path
):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked, problems = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: problems.append(message.text))
    world = ServedWorld("dots", dot_world, dot_prompts, folder=tmp_path, can_name=True)
    with running(create_server([world])) as address:
        page.goto(f"http://{address}/docs")
        page.wait_for_selector("section")
        tried = page.locator("section")
        assert tried.count() == 8
        for i in range(tried.count()):
            tried.nth(i).get_by_role("button", name="Try it").click()
            status = tried.nth(i).locator("p", has_text="200")
            status.wait_for()
        assert json.loads((tmp_path / "names.json").read_text())["names"][0] == "left"
        clip = page.locator("section", has_text="/generate")
        assert "actions=1%2C1%2C2%2C0" in clip.locator("pre").first.inner_text()
        wait_until(page, "document.querySelector('video').readyState > 1")
        Image.fromarray(dot_prompts[1]).save(tmp_path / "it's.png")
        clip.locator("input[type=file]").set_input_files(tmp_path / "it's.png")
        clip.locator("select").select_option("gif")
        clip.get_by_role("button", name="Try it").click()
        wait_until(
            page,
            "[...document.querySelectorAll('section img')].some((i) => i.naturalWidth === 240)",
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if folder := os.environ.get("GENIE_SCREENSHOTS"):
            page.screenshot(path=f"{folder}/docs-{width}-{scheme}.png", full_page=True)
    assert all(url.startswith((f"http://{address}/", f"blob:http://{address}/")) for url in asked)
    assert problems == []
    page.close()


def test_the_token_in_the_address_is_needed_only_once(browser, running, dot_world, dot_prompts):
    app = create_server(
        [ServedWorld("dots", dot_world, dot_prompts)], AuthConfig("a-secret-of-some-length")
    )
    context = browser.new_context()
    page = context.new_page()
    with running(app) as address:
        assert page.goto(f"http://{address}/").status == 401
        page.goto(f"http://{address}/?token=a-secret-of-some-length")
        page.wait_for_selector("#canvas[data-frame]")  # so the WebSocket was let in, too
        assert page.url == f"http://{address}/"
        assert page.evaluate("document.cookie") == ""
        page.reload()
        page.wait_for_selector("#canvas[data-frame]")
    context.close()
