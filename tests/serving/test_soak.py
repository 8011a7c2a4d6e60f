"""A server under load and abuse, as a process of its own: short here, long with `make soak`.

Figures are printed; `make soak` shows them.
"""

import asyncio
import contextlib
import io
import json
import os
import random
import socket
import time
from collections import defaultdict
from pathlib import Path
from typing import get_args

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from PIL import Image
from served import MALFORMED, SVG, encoded, figures, gif_of, png_of
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from genie.serving.play.batch import DropGame, GameBatch, PlayAction, StartGame
from genie.serving.protocol import HEADER, ClientMessage
from genie.world import bundled
from genie.world.genie import Genie
from genie.world.replay import encode_frame

LONG = os.environ.get("GENIE_SOAK", "") not in ("", "0")
MEGABYTE = 2**20


def sized(short, long):
    """How much of a test is done."""
    return long if LONG else short


pytestmark = [
    pytest.mark.timeout(sized(240, 3600)),
    pytest.mark.flaky(reruns=2),  # time and memory are measured on a machine that has other work
]


@pytest.fixture(scope="module")
def serving(two_worlds_of_module, serve_process):
    """A server of a small world: (process, host:port, folder of the world)."""
    limits = ["--limits.messages_per_second", "100000", "--limits.players", "64", "--action_names"]
    with serve_process(two_worlds_of_module[0], "--device", "cpu", *limits) as (process, address):
        yield process, address, two_worlds_of_module[0]
        assert process.poll() is None, "the server died"


def resident(process):
    """Memory of a process in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmRSS")) / 1024


def counted(address):
    return figures(httpx.get(f"http://{address}/metrics").text)


def frame_of(message):
    _, _, _, number, _, step, _ = HEADER.unpack_from(message)
    return number, step, np.asarray(Image.open(io.BytesIO(message[HEADER.size :])).convert("RGB"))


async def play(address, seed, action, steps, seconds=None):
    """Holds one action; returns the frames that came by step, and when each came."""
    frames, times = {}, []
    async with connect(f"ws://{address}/play") as player:
        await player.send(json.dumps({"type": "start", "seq": 1, "prompt": 0, "seed": seed}))
        await player.send(json.dumps({"type": "idle", "action": action}))
        ends = None if seconds is None else time.monotonic() + seconds
        while True:
            message = await asyncio.wait_for(player.recv(), 30)
            if isinstance(message, str):
                continue
            number, step, frames[step] = frame_of(message)
            times.append(time.monotonic())
            await player.send(json.dumps({"type": "ack", "frame": number}))
            if step >= steps or (ends is not None and times[-1] >= ends):
                return frames, times


def test_joining_and_leaving_changes_no_other_game(serving):
    _, address, folder = serving
    steps = sized(60, 500)

    async def everybody():
        dice = random.Random(0)

        async def guests(number):
            while not done.is_set():
                await play(address, number, dice.randrange(4), dice.randrange(1, 9))
                await asyncio.sleep(dice.random() / 5)

        done = asyncio.Event()
        coming = [asyncio.create_task(guests(number)) for number in range(4)]
        games = await asyncio.gather(*(play(address, s, s, steps) for s in range(2)))
        done.set()
        await asyncio.gather(*coming)
        return games

    world = Genie.from_pretrained(folder, device="cpu")
    prompt = np.asarray(Image.open(folder / "prompts" / "0.png").convert("RGB"))
    for seed, (frames, _) in enumerate(asyncio.run(everybody())):
        alone = world.generate(prompt, [seed] * steps, seed=seed).numpy()
        assert len(frames) > sized(0.5, 0.9) * steps
        for step, frame in frames.items():
            # A sum over a larger batch may be rounded otherwise in the last bit of a colour.
            np.testing.assert_allclose(frame, alone[step].astype(int), 0, 1, err_msg=f"step {step}")
    print(f"\n{steps} steps of 2 players equal to alone, with others coming and going")


def test_tokens_do_not_depend_on_other_players(two_worlds_of_module):
    """Exactly, and for the bundled world when long: 3 players among others, and each alone."""
    folder = sized(two_worlds_of_module[0], bundled.folder_of("coinrun-tiny"))
    world, dice, steps = (
        Genie.from_pretrained(folder, device="cpu"),
        random.Random(0),
        sized(60, 500),
    )
    prompt = np.asarray(Image.open(folder / "prompts" / "0.png").convert("RGB"))
    drawn = defaultdict(list)
    predict = world.predict

    def watched(state, *arguments):
        drawing = predict(state, *arguments)
        for seed, tokens in zip(state.seed.tolist(), drawing.tokens.tolist(), strict=True):
            drawn[seed].append(tokens)
        return drawing

    world.predict = watched
    games, guests = GameBatch(world, [prompt]), set()
    games.advance({player: StartGame(0, seed=player) for player in range(3)})
    for t in range(steps):
        for guest in (3, 4):
            if dice.random() < 0.3:
                if guest in guests:
                    games.run_maintenance([DropGame(guest)])
                else:
                    games.advance({guest: StartGame(0, guest)})
                guests ^= {guest}
        turns = [*range(3), *guests]
        dice.shuffle(turns)
        games.advance({player: PlayAction((player + t // 7) % 4) for player in turns})
    together = {player: drawn[player] for player in range(3)}
    drawn.clear()
    for player in range(3):
        state = world.start(prompt, seed=player)
        for t in range(steps):
            _, state = world.step(state, (player + t // 7) % 4)
    assert together == dict(drawn)
    assert [len(tokens) for tokens in together.values()] == [steps] * 3
    print(f"\nthe same tokens for {steps} steps of 3 players of {folder.name}")


def test_players_share_fairly_and_memory_is_flat(serving):
    process, address, _ = serving
    seconds = sized(2.5, 300)

    async def everybody(seconds):
        games = (play(address, s, s % 4, 10**9, seconds) for s in range(8))
        return [len(times) for _, times in await asyncio.gather(*games)]

    asyncio.run(everybody(1))
    before = resident(process)
    frames = asyncio.run(everybody(seconds))
    grown = resident(process) - before
    print(f"\n8 players for {seconds} s: {min(frames)} to {max(frames)} frames, {grown:+.1f} MB")
    assert min(frames) >= sized(0.7, 0.9) * max(frames)
    assert grown < 20


def test_connecting_and_leaving_leaks_no_memory(serving):
    process, address, _ = serving
    dice = random.Random(0)

    async def visit():
        async with connect(f"ws://{address}/play") as player:
            if dice.random() < 0.5:
                await player.send(json.dumps({"type": "start", "seq": 1, "prompt": 0}))
            if dice.random() < 0.5:
                await player.recv() if dice.random() < 0.1 else await asyncio.sleep(0)
            if dice.random() < 0.2:
                player.transport.abort()

    async def visits(count):
        for _ in range(count // 10):
            async with asyncio.timeout(30):
                await asyncio.gather(*(visit_safely() for _ in range(10)))

    async def visit_safely():
        try:
            async with asyncio.timeout(2):
                await visit()
        except (TimeoutError, ConnectionClosed):
            pass

    asyncio.run(visits(sized(50, 500)))
    before, count = resident(process), sized(200, 5000)
    asyncio.run(visits(count))
    deadline = time.monotonic() + 10
    while counted(address)["genie_sessions", "one"] > 0:
        assert time.monotonic() < deadline, "sessions are left"
        time.sleep(0.05)
    grown = resident(process) - before
    print(f"\n{count} connects and disconnects: {grown:+.1f} MB")
    assert grown < 20


PIXELS = encode_frame(np.zeros((16, 16, 3), np.uint8))
GOOD = [
    {"type": "start", "seq": 1, "prompt": 0, "seed": 3},
    {"type": "start", "seq": 1, "prompt": [PIXELS] * 2, "actions": [0, 1, 2]},
    {
        "type": "start",
        "seq": 1,
        "prompt": 0,
        "actions": [1] * 20,
        "sampling": [{"step": 0, "sampling": {"steps": 2, "order": "confidence"}}],
    },
    {"type": "keys", "seq": 2, "held": [1, 0]},
    {"type": "idle", "action": 1},
    {"type": "pause", "paused": False},
    {"type": "pace", "every": 2},
    {"type": "step", "seq": 3, "action": 1},
    {"type": "undo", "seq": 4, "steps": 3},
    {"type": "branch"},
    {"type": "switch", "game": 0},
    {"type": "close", "game": 1},
    {"type": "sampling", "steps": 3, "temperature": 0.5},
    {"type": "peek", "steps": 2},
    {"type": "save"},
    {"type": "film", "format": "gif"},
    {"type": "ack", "frame": 1},
]


def test_every_message_of_the_protocol_is_fuzzed():
    known = {get_args(kind.model_fields["type"].annotation)[0] for kind in get_args(ClientMessage)}
    assert {message["type"] for message in GOOD} == known


def fuzzed(dice):
    """A message that a client might send, more or less."""
    odd = [None, True, -1, 2**31, 2**32, 2**64, 1e308, "x", "\0", [], [1] * 70, {}, [[]], "9" * 999]
    message = dict(dice.choice(GOOD))
    for _ in range(dice.randrange(3)):
        kind = dice.randrange(3)
        if kind == 0:
            message[dice.choice(list(message))] = dice.choice(odd)
        elif kind == 1:
            message.pop(dice.choice(list(message)), None)
            message["type"] = message.get("type", "keys")
        else:
            message[dice.choice(["extra", "__class__", ""])] = dice.choice(odd)
    text = json.dumps(message)
    how = dice.randrange(20)
    if how == 0:
        return dice.randbytes(dice.randrange(50))
    if how == 1:
        place = dice.randrange(len(text))
        return (
            text[:place] + dice.choice(["\x00", "{", "\ud7ff", '"', "NaN", ""]) + text[place + 1 :]
        )
    if how == 2:
        return text * dice.randrange(1, 60)
    return text


def test_fuzzed_messages_harm_no_other_player(serving):
    _, address, _ = serving
    dice, count = random.Random(0), sized(600, 20_000)

    async def abuse():
        sent = closed = 0
        codes = set()
        while sent < count:
            async with connect(f"ws://{address}/play") as player:
                try:
                    for _ in range(dice.randrange(1, 40)):
                        await player.send(fuzzed(dice))
                        sent += 1
                    await player.send(b"the end")
                    while True:
                        await asyncio.wait_for(player.recv(), 10)
                except ConnectionClosed as closing:
                    closed += 1
                    codes.add(closing.rcvd.code if closing.rcvd else None)
        return sent, closed, codes

    async def play_along():
        """A few who say nothing wrong, so that every message is taken in a game that goes on."""
        sent = 0
        async with connect(f"ws://{address}/play") as player:
            try:
                await player.send(json.dumps(GOOD[0]))
                for _ in range(40):
                    await player.send(json.dumps(dice.choice(GOOD)))
                    sent += 1
                    if dice.random() < 0.3:
                        with contextlib.suppress(TimeoutError):  # nothing may be there to send
                            await asyncio.wait_for(player.recv(), 0.1)
            except ConnectionClosed as closing:  # it went back to a game that it had closed
                return sent, closing.rcvd.code if closing.rcvd else None
        return sent, 1000

    async def both():
        good = [play_along() for _ in range(sized(4, 50))]
        (sent, closed, codes), *played = await asyncio.gather(abuse(), *good)
        return sent + sum(count for count, _ in played), closed, codes | {c for _, c in played}

    sent, closed, codes = asyncio.run(both())
    print(f"\n{sent} fuzzed messages in {closed} connections, closed with {codes}")
    assert 1011 not in codes
    assert 1008 in codes
    frames, _ = asyncio.run(play(address, 0, 1, 3))
    assert 3 in frames
    assert counted(address)["genie_failed_turns_total", "one"] == 0


def test_every_request_of_the_openapi_schema_is_answered_as_described(serving):
    """Schemathesis makes requests of the OpenAPI description, right ones and wrong ones."""
    import schemathesis  # takes two seconds, and every worker imports this file

    _, address, _ = serving
    examples, statuses = sized(4, 300), defaultdict(int)
    schema = schemathesis.openapi.from_url(f"http://{address}/openapi.json")
    checks = [
        schemathesis.checks.not_a_server_error,
        schemathesis.specs.openapi.checks.status_code_conformance,
        schemathesis.specs.openapi.checks.content_type_conformance,
        schemathesis.specs.openapi.checks.response_schema_conformance,
    ]
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:

            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def request(case):
                answer = case.call(timeout=60)
                statuses[answer.status_code] += 1
                assert answer.status_code != 500
                case.validate_response(answer, checks=checks)

            with contextlib.suppress(Unsatisfiable):  # nothing wrong can be asked of some
                request()
    print(f"\nrequests of the description: {dict(statuses)}")
    assert statuses[200] > 0
    assert statuses[422] > 0
    assert httpx.get(f"http://{address}/health").status_code == 200


def malformed(dice):
    """A file that is no picture that can be read, and the statuses that may be the answer."""
    kind = dice.randrange(5)
    if kind == 0:
        return dice.choice([data for data, _ in MALFORMED.values()])
    if kind == 1:
        whole = encoded(dice.choice(["PNG", "JPEG"]), (99, 99))
        return whole[: dice.randrange(1, len(whole) // 2)]
    if kind == 2:
        return dice.choice([SVG, b"%PDF-1.7", b"GIF89a", b"MZ"]) + dice.randbytes(99)
    if kind == 3:
        return png_of(dice.randrange(5000, 2**31), dice.randrange(5000, 2**31), dice.randbytes(99))
    return gif_of(1_000_000)


def test_malformed_uploads_are_refused_quickly(serving):
    process, address, _ = serving
    dice, count = random.Random(0), sized(60, 2000)
    slowest, most, before = 0.0, 0.0, resident(process)
    statuses = dict.fromkeys(range(400, 500), 0)
    with httpx.Client(base_url=f"http://{address}", timeout=30) as client:
        for _ in range(count):
            data, began = malformed(dice), time.monotonic()
            try:
                status = client.post("/generate?actions=1", content=data).status_code
            except httpx.TransportError:  # the server has read enough, and closed
                assert len(data) > 10e6
                status = 413
            slowest, most = max(slowest, time.monotonic() - began), max(most, resident(process))
            assert status in statuses, (status, data[:99])
            statuses[status] += 1
    seen = {status: times for status, times in statuses.items() if times}
    words = f"{count} malformed uploads: {seen}, slowest {slowest:.2f} s, {most - before:+.0f} MB"
    print(f"\n{words}")
    assert slowest < sized(5, 1)
    assert most - before < 200


def test_an_endless_upload_is_stopped_at_the_limit(serving):
    """A body in chunks, without a length, of as many bytes as the server takes."""
    process, address, _ = serving
    host, port = address.split(":")
    before, sent, chunk = resident(process), 0, b"10000\r\n" + bytes(0x10000) + b"\r\n"
    lines = ["POST /generate?actions=1 HTTP/1.1", f"Host: {address}", "Transfer-Encoding: chunked"]
    head = "\r\n".join([*lines, "", ""])
    with socket.create_connection((host, int(port)), 20) as upload:
        upload.sendall(head.encode())
        try:
            while sent < 10e9:
                upload.sendall(chunk)
                sent += 0x10000
        except OSError:
            pass
    grown = resident(process) - before
    print(f"\nan endless upload was cut after {sent / 1e6:.0f} MB, {grown:+.0f} MB")
    assert sent < 30e6
    assert grown < 50
    assert httpx.get(f"http://{address}/ready").status_code == 200


def test_a_client_that_does_not_read_costs_nothing(serving):
    """Rounds with and without one in turn: the medians differ by less than rounds of a kind do."""
    process, address, _ = serving
    seconds, rounds = sized((1.5, 3), (20, 7))
    percent = sized(50, 99)  # of few frames, only the middle is steady

    async def watched():
        times = (await play(address, 1, 1, 10**9, seconds))[1]
        return np.percentile(np.diff(times), percent)

    async def beside_deaf():
        async with connect(f"ws://{address}/play", max_queue=1) as deaf:
            await deaf.send(json.dumps({"type": "start", "seq": 1, "prompt": 0}))
            await deaf.send(json.dumps({"type": "idle", "action": 1}))
            deaf.transport.pause_reading()
            before = resident(process)
            slowest = await watched()
            grown = resident(process) - before
            deaf.transport.abort()
            return slowest, grown

    alone, beside, grown = [], [], []
    for _ in range(rounds):
        alone.append(asyncio.run(watched()))
        slowest, more = asyncio.run(beside_deaf())
        beside.append(slowest)
        grown.append(more)
    ratio = np.median(beside) / np.median(alone)
    noise = max(alone) / np.median(alone)
    shown = f"p{percent} {1e3 * np.median(alone):.1f} ms -> {1e3 * np.median(beside):.1f} ms"
    words = f"beside one who doesn't read: {np.median(grown):+.2f} MB, {shown}: x {ratio:.3f}"
    print(f"\n{words} (alone up to x {noise:.3f} of their median)")
    assert np.median(grown) < 1
    assert ratio < sized(5, max(1.05, noise))  # other work on the machine is in it, too
