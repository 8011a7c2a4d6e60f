"""An exported site on a plain file server, in a real browser: the same games as in Python."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from browsing import FIREFOX, needs_chromium, needs_firefox, press, step, wait_until
from firefox import firefox
from PIL import Image
from visiting import PIXELS, served, shown

from genie import SamplingConfig, UserError
from genie.data.video import read_video
from genie.export.onnx import put
from genie.export.site import ON_DEMAND, WORLDS, _described, export_site
from genie.serving.protocol import World
from genie.world import maskgit, rng
from genie.world.action_mapper import ActionMapper
from genie.world.replay import Replay, decode_prompt

pytestmark = pytest.mark.xdist_group("export")
AT_STEP = "number => document.getElementById('step').textContent == number"
# All graphs and weights are in the cache of the service worker.
KEPT = """async () => {
    const caught = await Promise.all((await caches.keys()).map(async (name) =>
        (await (await caches.open(name)).keys()).map(({ url }) => url)));
    const found = caught.flat().join(" ");
    const wanted = ["weights.bin", "decode.onnx", "commit.onnx", "0.png"];
    return wanted.every((name) => found.includes(name));
}"""


def play(page, keys):
    """Plays keys step by step."""
    press(page, "Step by step T")
    for number, key in enumerate(keys, start=1):
        page.keyboard.press(key)
        wait_until(page, AT_STEP, str(number))


def saved(page):
    """The replay that the page saves."""
    with page.expect_download() as download:
        page.click("#save")
    return json.loads(download.value.path().read_text())


class TestInTheBrowser:
    pytestmark = needs_chromium

    def test_random_numbers_are_those_of_python(self, page):
        seeds, numbers = [0, 1, 2**31 - 1, 2**53 - 1], [0, 1, 7, 100_000]
        found = page.evaluate(
            """async ([seeds, numbers]) => {
                const { makeKey, randomBits, gumbel, plus } = await import("/tab/random.js");
                return seeds.flatMap((seed) => numbers.map((number) => {
                    const key = makeKey(seed, number);
                    return [[...randomBits(key, 5)], [...gumbel(plus(key, 3), 101)]];
                }));
            }""",
            [seeds, numbers],
        )
        pairs = [(seed, number) for seed in seeds for number in numbers]
        for (seed, number), (bits, noise) in zip(pairs, found, strict=True):
            key = rng.make_keys(torch.tensor([seed]), torch.tensor([number]))
            assert (
                bits
                == rng.random_bits(key, 5).view(torch.int32).numpy().view(np.uint32).tolist()[0]
            )
            np.testing.assert_allclose(noise, rng.gumbel(key + 3, (101,))[0], atol=1e-6)

    def test_orders_and_counts_are_those_of_python(self, page):
        asked = [
            [total, steps, schedule]
            for total in (1, 16, 64, 144)
            for steps in (1, 2, 8, 25, 200)
            for schedule in ("cosine", "linear", "exponential")
        ]
        counts, orders, coarse_counts, coarse_orders = page.evaluate(
            """async (asked) => {
                const { maskedCounts, stepCounts, tokenOrder } = await import("/tab/maskgit.js");
                const { makeKey } = await import("/tab/random.js");
                const orders = [["random", [8, 8]], ["halton", [8, 8]], ["halton", [9, 16]]];
                return [
                    asked.map((each) => maskedCounts(...each)),
                    orders.map(([order, grid]) => tokenOrder(order, grid, makeKey(5, 9))),
                    asked.map(([total, ...each]) => stepCounts(total, ...each, total >> 2)),
                    orders.map(([order, grid]) => tokenOrder(order, grid, makeKey(5, 9), 13)),
                ];
            }""",
            asked,
        )
        assert counts == [maskgit.masked_counts(*each) for each in asked]
        key = rng.make_keys(torch.tensor([5]), torch.tensor([9]))
        wanted = [("random", (8, 8)), ("halton", (8, 8)), ("halton", (9, 16))]
        for (order, grid), found in zip(wanted, orders, strict=True):
            assert found == maskgit.fixed_order(order, grid, key)[0].tolist()
        for (order, grid), found in zip(wanted, coarse_orders, strict=True):
            assert found == maskgit.fixed_order(order, grid, key, 13)[0].tolist()
        assert coarse_counts == [
            maskgit.step_counts(
                total, SamplingConfig(steps=steps, mask_schedule=schedule), total >> 2
            )
            for total, steps, schedule in asked
        ]

    def test_fine_tokens_wait_for_coarse_ones_where_confidence_decides(self, page):
        filled = page.evaluate(
            """async () => {
                const { stepInputs } = await import("/tab/maskgit.js");
                const noise = new Float32Array(10 * 7);
                const at = (tokens, before) => [...stepInputs(
                    Int32Array.from(tokens), 7, null, [0, 5], 1, before, before - 1, 0, noise, 2,
                ).fill];
                return [
                    at([7, 7, 7, 7, 7, 7, 7, 7, 7, 7], 10),
                    at([7, 1, 7, 7, 7, 7, 7, 7, 7, 7], 9),
                    at([3, 1, 7, 7, 7, 7, 7, 7, 7, 7], 8),
                ];
            }"""
        )
        assert filled == [[1, 1] + 8 * [0], [1, 0] + 8 * [0], [0, 0] + 8 * [1]]

    def test_a_game_of_the_tab_is_played_again_in_python(self, playing, world):
        play(playing, ["1", "2", "4", "4", "3", "1"])
        replay = saved(playing)
        assert replay["actions"] == [0, 1, 3, 3, 2, 0]
        *_, last = read(replay).frames(world)
        np.testing.assert_allclose(shown(playing), last.astype(int), atol=1)

    def test_real_actions_are_those_of_python(self, playing, world, folder):
        press(playing, "Real actions A")
        play(playing, ["2", "1", "ArrowRight", "1"])
        replay = saved(playing)
        mapper, state = ActionMapper.from_pretrained(folder, world), world.start(*begun(replay))
        for action, played in zip((5, 4, 5, 4), replay["actions"], strict=True):
            assert mapper.to_played(state.frame[None], [action]) == [played]
            _, state = world.step(state, played)
        np.testing.assert_allclose(shown(playing), state.frame.numpy().astype(int), atol=1)

    def test_a_game_of_python_is_played_again_in_the_tab(self, playing, world, tmp_path):
        replay = saved(playing)
        changes = [
            {"step": 0, "sampling": {"steps": 3, "order": "halton", "temperature": 0.5}},
            {"step": 4, "sampling": {"steps": 2, "guidance": 1.5}},
        ]
        full = [{**c, "sampling": {**vars(SamplingConfig()), **c["sampling"]}} for c in changes]
        replay |= {"actions": [3, 0, 1, 1, 2, 2, 3], "seed": 77, "sampling": full}
        file = tmp_path / "game.json"
        file.write_text(json.dumps(replay))
        playing.set_input_files("#replay", file)
        wait_until(playing, "() => document.getElementById('step').textContent == '7'")
        *_, last = read(replay).frames(world)
        np.testing.assert_allclose(shown(playing), last.astype(int), atol=1)

    def test_a_game_of_another_world_is_refused(self, playing, tmp_path):
        file = tmp_path / "game.json"
        file.write_text(json.dumps(saved(playing) | {"hash": "0" * 64}))
        playing.set_input_files("#replay", file)
        wait_until(playing, "() => /another world/.test(document.body.innerText)")

    def test_undo_and_branches_are_the_same_game(self, playing):
        play(playing, ["1", "2", "3"])
        third = shown(playing)
        press(playing, "Branch B")
        playing.wait_for_selector("#games:not([hidden])")
        press(playing, "Undo Z")
        wait_until(playing, "() => document.getElementById('step').textContent == '2'")
        playing.keyboard.press("3")
        wait_until(playing, "() => document.getElementById('step').textContent == '3'")
        np.testing.assert_array_equal(shown(playing), third)
        playing.get_by_role("button", name="Game 1, at step 3").click()
        wait_until(playing, "() => document.getElementById('step').textContent == '3'")
        np.testing.assert_array_equal(shown(playing), third)

    def test_what_follows_a_start_waits_for_it(self, playing):
        """A start reads its picture first. A pause that came after it must not come before."""
        press(playing, "Step by step T")
        playing.click("#gallery button:nth-child(2)")
        playing.wait_for_timeout(300)
        playing.keyboard.down("4")
        playing.wait_for_timeout(500)
        playing.keyboard.up("4")
        assert step(playing) == 1

    def test_a_held_key_plays_at_the_frame_rate_and_previews_come(self, playing):
        playing.wait_for_selector("#pad canvas[data-frame]")
        playing.keyboard.down("4")
        wait_until(playing, "() => Number(document.getElementById('step').textContent) > 10")
        playing.keyboard.up("4")
        playing.wait_for_timeout(300)
        at = step(playing)
        playing.wait_for_timeout(300)
        assert step(playing) == at

    def test_an_own_picture_is_seen_as_the_world_sees_it(self, playing, world, tmp_path):
        picture = np.full((16, 16, 3), (200, 40, 90), np.uint8)
        Image.fromarray(picture).save(tmp_path / "own.png")
        playing.set_input_files("#file", tmp_path / "own.png")
        playing.wait_for_function(
            """() => document.getElementById("reconstruction").getContext("2d")
                .getImageData(0, 0, 1, 1).data[3] === 255"""
        )
        seen = playing.evaluate(
            """() => [...document.getElementById("reconstruction").getContext("2d")
                .getImageData(0, 0, 16, 16).data]"""
        )
        wanted = world.reconstruct(picture).numpy().astype(int)
        found = np.array(seen).reshape(16, 16, 4)[..., :3]
        np.testing.assert_allclose(found, wanted, atol=1)
        press(playing, "Play this")
        playing.wait_for_timeout(300)
        np.testing.assert_array_equal(shown(playing), picture)

    @pytest.mark.usefixtures("needs_packages")
    def test_it_plays_without_a_network_after_the_first_visit(self, first_visit):
        wait_until(first_visit, KEPT)
        first_visit.context.set_offline(True)
        first_visit.reload()
        first_visit.wait_for_selector("#canvas[data-frame]", timeout=60_000)
        play(first_visit, ["1", "2"])

    def test_the_last_minute_is_saved_as_a_video(self, playing, tmp_path):
        press(playing, "Step by step T")
        seen = [shown(playing)]
        for number, key in enumerate("1423", start=1):
            playing.keyboard.press(key)
            wait_until(
                playing, "n => document.getElementById('step').textContent == n", str(number)
            )
            seen.append(shown(playing))
        press(playing, "Undo Z")
        wait_until(playing, "() => document.getElementById('step').textContent == '3'")
        for format in ("gif", "mp4"):
            with playing.expect_download() as download:
                playing.click(f"[data-video={format}]")
            file = tmp_path / download.value.suggested_filename
            download.value.save_as(file)
            assert file.stem == "toy"
            frames = [pixels for _, pixels in read_video(file)]
            assert frames[0].shape == (256, 256, 3)
            for frame, wanted in zip(frames, seen[:4], strict=True):
                assert np.abs(frame[8::16, 8::16].astype(int) - wanted).mean() < 12, file

    def test_axe_finds_nothing(self, playing):
        axe = pytest.importorskip("axe_playwright_python.sync_playwright")
        playing.evaluate("document.querySelector('details').open = true")
        for width in (390, 1280):
            playing.set_viewport_size({"width": width, "height": 800})
            found = axe.Axe().run(playing).response["violations"]
            assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found] == []

    @pytest.mark.usefixtures("needs_packages")
    @pytest.mark.parametrize(
        ("file", "answer", "said"),
        [
            ("prompts/0.png", {"status": 404}, "0.png is missing"),
            ("decode.onnx", {"status": 404}, "decode.onnx is missing (404)."),
            ("tokenize.onnx", {"body": b"no graph"}, "tokenize.onnx or weights.bin is damaged: "),
            ("weights.bin", {"body": b"short"}, "tokenize.onnx or weights.bin is damaged: "),
            ("world.json", {"body": b"{"}, "world.json is damaged."),
        ],
    )
    def test_a_missing_or_damaged_file_is_a_sentence(self, uncached, address, file, answer, said):
        page = uncached.new_page()
        page.route(f"**/{file}", lambda route: route.fulfill(**answer))
        page.goto(address)
        page.wait_for_selector("#again:not([hidden])", timeout=60_000)
        told = page.inner_text("#overlay-text")
        page.close()
        assert told.startswith("The world could not be played: ")
        assert said in told

    @pytest.mark.parametrize(
        ("lacks", "said"),
        [
            ("delete window.WebAssembly", "This browser has no WebAssembly. Update it"),
            ("WebAssembly.validate = () => false", "This browser has no WebAssembly SIMD. Update"),
            ("delete window.OffscreenCanvas", "This browser has no OffscreenCanvas. Update it"),
        ],
    )
    def test_what_a_browser_lacks_is_a_sentence(self, uncached, address, lacks, said):
        page = uncached.new_page()
        page.add_init_script(lacks)
        page.goto(address)
        page.wait_for_selector("#again:not([hidden])")
        told = page.inner_text("#overlay-text")
        page.close()
        assert told.startswith(said)

    @pytest.mark.parametrize("error", ["new RangeError('Array buffer')", "'OOM'", "12345678"])
    def test_too_little_memory_is_a_sentence(self, uncached, address, error):
        page = uncached.new_page()
        runtime = f"""export const env = {{ wasm: {{}} }};
            export const InferenceSession = {{ create: async () => {{ throw {error}; }} }};"""
        answer = {"body": runtime, "content_type": "text/javascript"}
        page.route("**/ort.wasm.min.mjs", lambda route: route.fulfill(**answer))
        page.goto(address)
        page.wait_for_selector("#again:not([hidden])")
        told = page.inner_text("#overlay-text")
        page.close()
        assert told == (
            "This device has too little memory for the world. Close other tabs and try again."
        )

    @pytest.mark.usefixtures("needs_packages")
    def test_nothing_is_requested_from_elsewhere(self, uncached, address):
        page = uncached.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.wait_for_selector("#canvas[data-frame]", timeout=60_000)
        page.close()
        assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []
        assert not [url for url in asked if url.removeprefix(address) in ON_DEMAND]


class TestInFirefox:
    pytestmark = needs_firefox

    @pytest.mark.usefixtures("needs_packages")
    def test_a_game_of_python_and_videos_and_no_network(self, site, world, folder, tmp_path):
        prompt = np.array(Image.open(folder / "prompts" / "1.png"))
        replay = Replay.of_game(world, "toy", prompt, seed=3, actions=[3, 0, 1, 2, 2, 1])
        file = tmp_path / "game.json"
        file.write_text(json.dumps(dataclasses.asdict(replay)))
        with firefox(FIREFOX, tmp_path / "profile") as page:
            self.visit(page, site, world, replay, file)
            page.goto(page.asked[0])  # the server is gone
            page.wait_until("document.querySelector('#canvas').dataset.frame > 0", seconds=60)
            page.press("t")
            page.press("1")
            page.wait_until("document.querySelector('#step').textContent === '1'", seconds=60)

    def visit(self, page, site, world, replay, file):
        with served(site) as address:
            page.goto(address)
            page.wait_until("document.querySelector('#canvas').dataset.frame > 0", seconds=60)
            page.choose_file("#replay", file)
            page.wait_until("document.querySelector('#step').textContent === '6'", seconds=60)
            pixels = np.array(page.evaluate(f"({PIXELS})()")).reshape(16, 16, 4)[..., :3]
            *_, last = replay.frames(world)
            np.testing.assert_allclose(pixels, last.astype(int), atol=1)
            for format in ("gif", "mp4"):
                page.click(f"[data-video={format}]")
                page.wait_until(
                    "/downloads/.test(document.querySelector('#save-status').textContent)"
                )
                page.evaluate("document.querySelector('#save-status').textContent = ''")
            page.keep_screenshot("site")
            assert page.problems == []
            assert [
                url for url in page.asked if not url.startswith((address, "blob:", "data:"))
            ] == []
            page.wait_until(f"({KEPT})()")


def begun(values):
    """Prompt and seed of a replay."""
    replay = read(values)
    return decode_prompt(replay.prompt, (16, 16)), replay.seed


def read(values):
    """A replay from what the page saves."""
    from genie.core.config import from_record

    return from_record(Replay, values)


def test_the_site_lists_its_worlds_as_the_page_wants_them(site, folder):
    (listed,) = json.loads((site / WORLDS).read_text())
    assert listed["name"] == "toy"
    assert listed["names"] == ["left", "", "", "jump"]
    assert listed["can_guide"]
    assert listed["real_actions"] == ["left", "right"]
    assert listed.keys() == {*World.model_fields, "address"} - {"protocol"}
    for prompt in listed["prompts"]:
        with Image.open(site / prompt) as picture:
            assert picture.size == (16, 16)
    worker = (site / "offline.js").read_text().split("const CACHE")[1]
    assert "VERSION" not in worker
    assert '"tab/worker.js"' in worker
    assert "weights.bin" not in worker
    assert "jspi" not in worker


def test_prompts_are_those_of_the_world(site, folder):
    for name in ("0.png", "1.png"):
        ours = np.array(Image.open(site / "worlds" / "toy" / "prompts" / name))
        np.testing.assert_array_equal(ours, np.array(Image.open(folder / "prompts" / name)))


def test_an_earlier_site_is_replaced_and_other_files_stay(tmp_path):
    out, made = tmp_path / "site", tmp_path / "made"
    for folder in (out, made):
        (folder / "worlds").mkdir(parents=True)
        (folder / "worlds.json").write_text(folder.name)
    (out / "worlds" / "old").write_text("")
    (out / ".git").mkdir()
    (out / "CNAME").write_text("example.org")
    put(made, out)
    assert sorted(file.name for file in out.iterdir()) == [".git", "CNAME", "worlds", "worlds.json"]
    assert (out / "worlds.json").read_text() == "made"
    assert not (out / "worlds" / "old").exists()


def test_names_are_quoted_in_addresses(site, tmp_path):
    shutil.copytree(site / "worlds" / "toy", tmp_path / "worlds" / "my #1")
    told = _described(tmp_path, "my #1")
    assert told["address"] == "worlds/my%20%231/"
    assert told["prompts"][0] == "worlds/my%20%231/prompts/0.png"


def test_bad_input_is_named_before_anything_is_written(folder, tmp_path, monkeypatch):
    out = tmp_path / "site"
    with pytest.raises(UserError, match="toy, toy, give each its own name"):
        export_site([folder, folder], out, runtime=tmp_path)
    with pytest.raises(UserError, match=r"runtime: ort\.wasm\.min\.mjs, .* not found"):
        export_site([folder], out, runtime=tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"npm is missing: install Node\.js, or copy"):
        export_site([folder], out)
    assert not out.exists()
    out.mkdir()
    (out / "index.html").write_text("mine")
    with pytest.raises(UserError, match="holds something that is not a site"):
        export_site([folder], out, runtime=tmp_path)
    assert (out / "index.html").read_text() == "mine"
