"""What the page does when it is not let in, or when the server goes."""

import socket
import time
from itertools import pairwise

import pytest
from browsing import dot, needs_chromium, tap, wait_for_dot, wait_until

from genie.serving import ServedWorld, create_server
from genie.serving.limits import Limits

pytestmark = needs_chromium
HIDE = """hidden => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_the_page_retries_a_full_server_after_the_given_time(
    browser, running, playing, dot_world, dot_prompts
):
    limits = Limits(players=1, retry_after_seconds=1)
    page, tries = browser.new_page(), []
    page.on("websocket", lambda _: tries.append(time.monotonic()))
    with running(
        create_server([ServedWorld("dots", dot_world, dot_prompts)], None, limits)
    ) as address:
        with playing(address):
            page.goto(f"http://{address}/")
            page.wait_for_selector("#overlay:has-text('All 1 places are taken. Trying again in')")
            page.wait_for_selector("#announcer:has-text('All 1 places are taken')")
            wait_until(page, "document.querySelector('#overlay-text').textContent.endsWith('1 s')")
            while len(tries) < 2:
                page.wait_for_timeout(50)
        waits = [after - before for before, after in pairwise(tries)]
        assert min(waits) >= 1
        page.wait_for_selector("#overlay:has-text('Hold a key')")
        tap(page, "Digit2")
        wait_for_dot(page, lambda at: at == (12, 13))
    page.close()


def test_waits_grow_differ_and_stop_while_the_tab_is_hidden(browser, dots):
    """The page's own `Retry` with a clock that is turned, so that hours pass at once."""
    page = browser.new_page()
    page.clock.install()
    page.goto(f"http://{dots}/health")
    page.set_content("<p>")
    page.evaluate(
        """async () => {
            const { Retry } = await import("/retry.js");
            window.tried = [];
            const begin = () => new Retry(function () {
                window.tried.push(performance.now());
                window.retry.later();
            }, () => {});
            window.retry = begin();
            window.retry.later();
        }"""
    )

    def waits():
        page.evaluate("tried.length = 0")
        page.clock.run_for(600_000)
        tried = page.evaluate("tried")
        return [after - before for before, after in pairwise(tried)]

    first = waits()
    assert len(first) < 30
    for i, wait in enumerate(first):
        most = min(60_000, 1000 * 2 ** (i + 1))
        assert most / 2 <= wait <= most + 1100
    assert len({round(wait) for wait in first[-5:]}) > 1, "all pages would come back at once"
    page.evaluate(HIDE, True)
    assert waits() == []
    page.evaluate(HIDE, False)
    assert len(page.evaluate("tried")) == 1, "it is late, and somebody looks again"
    page.evaluate("retry.later(300)")
    assert min(waits()) >= 30_000
    page.close()


def test_a_hidden_page_does_not_retry_a_lost_server(browser, running, dot_world, dot_prompts):
    page, tries = browser.new_page(), []
    with running(create_server([ServedWorld("world", dot_world, dot_prompts)])) as address:
        page.goto(f"http://{address}/")
        page.wait_for_selector("#canvas[data-frame]")
        page.on("websocket", lambda _: tries.append(time.monotonic()))
    page.wait_for_selector("#overlay:has-text('Trying again in')")
    page.evaluate(HIDE, True)
    before = len(tries)
    page.wait_for_timeout(2000)
    assert len(tries) == before
    page.evaluate(HIDE, False)
    wait_until(page, "document.querySelector('#overlay-text').textContent.includes('again in')")
    page.click("#again")
    page.wait_for_timeout(200)
    assert len(tries) > before
    page.close()


def test_the_page_waits_for_a_server_that_starts_later(browser, running, dot_world, dot_prompts):
    """The list of worlds fails at first, as behind a proxy whose server starts anew."""
    page, failed = browser.new_page(), []

    def fail_once(route):
        if failed:
            route.continue_()
        else:
            failed.append(route)
            route.abort()

    with running(create_server([ServedWorld("world", dot_world, dot_prompts)])) as address:
        page.route("**/worlds", fail_once)
        page.goto(f"http://{address}/")
        page.wait_for_selector("#canvas[data-frame]")
        assert failed
        assert dot(page) == (12, 12)
    page.close()


def test_after_a_time_limit_the_page_reconnects_only_on_request(
    browser, running, dot_world, dot_prompts
):
    limits = Limits(idle_minutes=0.02)
    page, tries = browser.new_page(), []
    page.on("websocket", lambda _: tries.append(time.monotonic()))
    app = create_server([ServedWorld("dots", dot_world, dot_prompts)], None, limits)
    with running(app) as address:
        page.goto(f"http://{address}/")
        page.wait_for_selector("#overlay:has-text('There was no input')")
        page.wait_for_timeout(1500)
        assert len(tries) == 1
        page.get_by_role("button", name="Connect again").click()
        page.wait_for_selector("#overlay:has-text('Hold a key')")
        assert len(tries) == 2
    page.close()


def test_a_page_is_told_why_the_server_is_full(dots):
    """And nothing else: without an upgrade nobody plays."""
    host, port = dots.split(":")
    with socket.create_connection((host, int(port))) as plain:
        plain.sendall(f"GET /play HTTP/1.1\r\nHost: {dots}\r\nConnection: close\r\n\r\n".encode())
        assert plain.recv(100).startswith(b"HTTP/1.1 204")


def test_a_world_that_is_gone_is_reported_and_not_retried(browser, dots):
    """The list of worlds is an old one."""
    page, tries = browser.new_page(), []
    page.on("websocket", lambda _: tries.append(time.monotonic()))

    def rename(route):
        (world,) = route.fetch().json()
        route.fulfill(json=[world | {"name": "gone"}])

    page.route("**/worlds", rename)
    page.goto(f"http://{dots}/")
    page.wait_for_selector("#overlay:has-text('There is no world of this name. Reload the page.')")
    assert page.inner_text("#again") == "Connect again"
    page.wait_for_timeout(1500)
    assert len(tries) == 1
    page.close()


def next_request(listener, upgrade):
    """Waits for one that asks for a WebSocket, or for one that does not; others are sent away."""
    while True:
        caller, _ = listener.accept()
        caller.settimeout(20)
        head = caller.recv(4096).lower()
        if head and (b"upgrade: websocket" in head) == upgrade:
            return caller
        caller.close()


def refuse(caller):
    with caller:
        caller.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("under_way", ["handshake", "question"])
def test_try_now_replaces_a_try_that_is_under_way(
    browser, running, dot_world, dot_prompts, under_way
):
    """It waits to be let in, or asks why it was not: what comes of it changes nothing."""
    page, tries = browser.new_page(), []
    page.on("websocket", lambda _: tries.append(time.monotonic()))
    with running(create_server([ServedWorld("world", dot_world, dot_prompts)])) as address:
        page.goto(f"http://{address}/")
        page.wait_for_selector("#canvas[data-frame]")
    page.wait_for_selector("#overlay:has-text('Trying again in')")
    host, port = address.split(":")
    with socket.create_server((host, int(port))) as listener:
        listener.settimeout(20)
        former = next_request(listener, upgrade=True)
        if under_way == "question":
            refuse(former)
            former = next_request(listener, upgrade=False)
        page.inner_text("#again")  # events of before have come, too
        before = len(tries)
        page.click("#again")
        with next_request(listener, upgrade=True):
            if under_way == "question":
                refuse(former)
            else:
                assert former.recv(1) == b"", "two tries are under way"
                former.close()
            page.wait_for_timeout(1500)
            assert page.inner_text("#overlay-text") == "Connecting"
            assert len(tries) == before + 1
    page.close()
