"""WebGPU in the tab, by software: it is compared, chosen, computes the same game and may fail."""

import contextlib
import json

import numpy as np
import pytest
from browsing import needs_chromium, press
from visiting import chromium, opened, shown

from genie.core.config import from_record
from genie.world.replay import Replay

pytestmark = [*needs_chromium, pytest.mark.xdist_group("export")]
# A world whose frames take some milliseconds on each device, and what is said of the devices.
CHOOSE = """async ([wasm, webgpu, choices]) => {
    const { Devices } = await import("/tab/devices.js");
    const wait = (time) => new Promise((resolve) => setTimeout(resolve, time));
    const adapter = { requestAdapter: async () => (webgpu === null ? null : {}) };
    Object.defineProperty(navigator, "gpu", { value: adapter, configurable: true });
    const said = [];
    const world = {
        device: "wasm", dropped: 0,
        addWebGPU: async () => { if (webgpu === "broken") throw new Error("no shaders"); },
        dropWebGPU: () => { world.dropped += 1; },
        predict: async (_, action, sampling, device) => wait(device === "webgpu" ? webgpu : wasm),
        commit: async () => {},
    };
    const tell = ({ device, text }) => said.push(`${device} ${text}`);
    const devices = new Devices(world, tell, async () => ({}), 300);
    await Promise.all(choices.map((choice) => devices.choose(choice)));
    return [world.device, said.at(-1), world.dropped];
}"""


@pytest.mark.parametrize(
    ("wasm", "webgpu", "choices", "device", "said"),
    [
        (20, 5, ["auto"], "webgpu", "A frame takes "),
        (5, 20, ["auto"], "wasm", "A frame takes "),
        (5, 400, ["auto"], "wasm", "A frame takes "),
        (5, None, ["auto"], "wasm", "WebGPU cannot be used: this browser offers no graphics"),
        (5, "broken", ["auto"], "wasm", "WebGPU failed: no shaders"),
        (5, "broken", ["webgpu"], "wasm", "WebGPU failed: no shaders"),
        (5, 20, ["webgpu"], "webgpu", ""),
        (20, 5, ["wasm"], "wasm", ""),
        (20, 5, ["webgpu", "wasm"], "wasm", ""),
    ],
)
def test_the_faster_device_is_chosen(page, wasm, webgpu, choices, device, said):
    played, told, dropped = page.evaluate(CHOOSE, [wasm, webgpu, choices])
    assert played == device
    assert told.startswith(f"{device} {said}")
    assert bool(dropped) == (device == "wasm" and bool(said) and webgpu is not None)


SOFTWARE = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
"""WebGPU on the processor, as a machine without a graphics processor can have it."""
NOTE_DEVICE = """() => {
    const { requestDevice } = GPUAdapter.prototype;
    GPUAdapter.prototype.requestDevice = async function (...all) {
        return (self.device = await requestDevice.apply(this, all));
    };
}"""


TEXT = "document.getElementById('device-status').textContent"


def said(page):
    return page.text_content("#device-status")


def choose(page, device):
    page.evaluate("document.querySelector('details').open = true")
    page.select_option("#device", device)


def play(page, keys):
    press(page, "Step by step T")
    for key in keys:
        before = int(page.text_content("#step"))
        page.keyboard.press(key)
        wait = "before => document.getElementById('step').textContent == before + 1"
        page.wait_for_function(wait, arg=before, timeout=60_000)


@contextlib.contextmanager
def visited(browser, address, device):
    """A page with a frame, of a visitor who chose a device."""
    context = browser.new_context()
    context.add_init_script(f"""localStorage.setItem("genie.device", '"{device}"')""")
    with opened(context, address) as page:
        page.wait_for_selector("#canvas[data-frame]", timeout=60_000)
        page.wait_for_function(f"{TEXT} !== ''")
        yield page
    context.close()


@pytest.mark.usefixtures("needs_packages")
def test_webgpu_plays_the_same_game_and_webassembly_goes_on_when_it_is_lost(driver, address, world):
    with chromium(driver, *SOFTWARE) as browser, visited(browser, address, "wasm") as page:
        assert said(page) == "WebAssembly plays."
        (worker,) = page.workers
        worker.evaluate(NOTE_DEVICE)
        choose(page, "webgpu")
        page.wait_for_function(f"/WebGPU plays/.test({TEXT})", timeout=90_000)
        press(page, "Step by step T")
        play(page, "2")
        with page.expect_download() as download:
            page.click("#save")
        replay = json.loads(download.value.path().read_text())
        assert replay["device"] == "webgpu"
        *_, last = from_record(Replay, replay).frames(world)
        np.testing.assert_allclose(shown(page), last.astype(int), atol=1)
        worker.evaluate("self.device.destroy()")
        play(page, "3")
        assert said(page).startswith("WebAssembly plays. WebGPU failed: ")
