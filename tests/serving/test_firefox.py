"""The page in a real Firefox: it loads, starts, is played and drawn on, and keeps a game."""

import pytest
from browsing import DOT, FIREFOX, needs_firefox
from firefox import firefox
from PIL import Image

pytestmark = needs_firefox
AT = f"({DOT})().join()"


def test_a_firefox_that_exits_at_once_is_reported_with_its_output(tmp_path):
    executable = tmp_path / "firefox"
    executable.write_text("#!/bin/sh\necho no display >&2\n")
    executable.chmod(0o755)
    with (
        pytest.raises(AssertionError, match="ended: no display"),
        firefox(str(executable), tmp_path / "profile"),
    ):
        pass


def test_a_game_in_firefox(dots, tmp_path):
    with firefox(FIREFOX, tmp_path / "profile", dark=True) as page:
        page.goto(f"http://{dots}/")
        page.wait_until("document.querySelector('#canvas').dataset.frame > 0")
        assert page.evaluate(AT) == "12,12"
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == "rgb(22, 21, 28)"
        for width in (390, 1280):
            page.size(width, 844)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.keep_screenshot(f"start-{width}")

        page.press("2", 300)  # frames come while the key is held
        page.wait_until("Number(document.querySelector('#step').textContent) > 5")
        assert page.evaluate(AT).startswith("12,")
        assert page.evaluate("document.querySelector('#latency').textContent").endswith(" ms")
        page.press("t")
        page.press("r")
        page.wait_until(f"{AT} === '12,12'")
        page.click("#pad button")  # left
        page.wait_until(f"{AT} === '12,11'")
        page.press("\ue015")  # arrow down
        page.wait_until(f"{AT} === '13,11'")
        page.press("z")
        page.wait_until(f"{AT} === '12,11'")
        page.wait_until(
            "[...document.querySelectorAll('#pad canvas')].every((c) => c.dataset.frame)"
        )

        page.click("#draw")
        for colour, click in (
            ("#000000", ("#fill", 0.5, 0.5)),
            ("#ffffff", ("#fitted", 0.27, 0.77)),
        ):
            page.evaluate(f"document.querySelector('#colour').value = '{colour}'")
            page.evaluate("document.querySelector('#brush').value = 1")
            page.click(*click)
        page.keep_screenshot("draw")
        page.click("#use")
        page.wait_until(f"{AT} === '18,6'")
        picture = Image.new("RGB", (240, 240))
        picture.paste((255, 255, 255), (30, 200, 40, 210))
        picture.save(tmp_path / "own.png")
        page.choose_file("#file", tmp_path / "own.png")
        page.wait_until("document.querySelector('#image-editor').open")
        page.click("#use")
        page.wait_until(f"{AT} === '20,3'")

        page.press("2")
        page.wait_until(f"{AT} === '20,4'")
        page.click("[data-video=gif]")
        page.wait_until("document.querySelector('#save-status').textContent.includes('downloads')")
        page.click("#share")
        page.wait_until("document.querySelector('#link').value.includes('#game=')")
        link = page.evaluate("document.querySelector('#link').value")
        page.goto(f"http://{dots}/health")
        page.goto(link)
        page.wait_until(f"document.querySelector('#canvas').dataset.frame > 0 && {AT} === '20,4'")
        assert page.problems == []
        assert [
            a for a in page.asked if f"//{dots}/" not in a and a[:5] not in ("blob:", "data:")
        ] == []
