"""A server with one player, abused by others in another way in each trial."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import struct
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from campaign import harness
from campaign.attacks import toys
from campaign.harness import Attack, Fell, Figures

TOKEN = "0123456789abcdef0123456789abcdef"
AT_ONCE = 4
"""Abusers at the same time."""
Abuse = Callable[[str, int, random.Random], Awaitable[int]]
"""Abuses a server at a host and port; returns how often it did."""


async def _raw(host: str, port: int, data: bytes, wait: float = 3.0) -> bytes:
    """Sends bytes and returns all that comes back until the server closes or says no more."""
    reader, writer = await asyncio.open_connection(host, port)
    with contextlib.suppress(OSError):
        writer.write(data)
        await writer.drain()
    found = b""
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(wait):
            while chunk := await reader.read(65536):
                found += chunk
    writer.close()
    return found


def _statuses(answer: bytes) -> list[int]:
    parts = answer.split(b"HTTP/1.1 ")[1:]
    return [int(part[:3]) for part in parts]


def _request(path: str, *headers: str, method: str = "GET", host: str = "localhost") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


UPGRADE = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip
BEARER = f"Authorization: Bearer {TOKEN}"


async def _refused(host: str, port: int, requests: list[bytes], allowed: set[int]) -> int:
    """Sends requests, some at a time, and checks the status of each answer."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(data: bytes) -> None:
        async with places:
            found = _statuses(await _raw(host, port, data, 1.0))
        if any(status not in allowed for status in found):
            raise Fell(f"answered {found} to {data[:200]!r}")

    await asyncio.gather(*(one(data) for data in requests))
    return len(requests)


async def tokens(host: str, port: int, dice: random.Random) -> int:
    """Guesses tokens, in headers, cookies and addresses, also those that are nearly right."""
    near = [TOKEN[:-1], TOKEN + "0", TOKEN.upper(), TOKEN[::-1], "", " ", "null", "\xff" * 32]
    near += [dice.randbytes(16).hex() for _ in range(120)]
    requests = []
    for guess in near:
        where = dice.randrange(4)
        path = dice.choice(("/worlds", "/metrics", "/", "/play", "/docs", "/generate"))
        method = "POST" if path == "/generate" else "GET"
        headers = ["Connection: close"]
        if where == 0:
            headers.append(f"Authorization: Bearer {guess}")
        elif where == 1:
            headers.append(f"Cookie: genie_token={guess}; token={guess}")
        elif where == 2:
            path += f"?token={guess.replace(' ', '+')}"
        else:
            headers += [f"Authorization: Basic {guess}", f"X-Token: {guess}"]
        requests.append(_request(path, *headers, method=method))
    requests += [
        _request(f"/play?token={TOKEN[:-1]}", *UPGRADE),
        _request("/play", *UPGRADE),
        _request("//worlds", "Connection: close"),
        _request("/health/../worlds", "Connection: close"),
        _request("/health%2f..%2fworlds", "Connection: close"),
        _request("/ready;/../worlds", "Connection: close"),
    ]
    return await _refused(host, port, requests, {400, 401, 403, 404})


async def foreign(host: str, port: int, dice: random.Random) -> int:
    """Names of other hosts and pages, with the right token, as DNS rebinding would send them."""
    hosts = [
        "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "localhost:80@evil",
        "evil#localhost", "[::ffff:8.8.8.8]", "", "0x7f000001", "localhost evil", "169.254.169.254",
    ]  # fmt: skip
    origins = [
        "http://evil.example", "null", "http://localhost.evil.example", "file://", "",
        "http://localhost:1", "http://evil.example/http://localhost", "https://localhost:8000",
    ]  # fmt: skip
    requests = [_request("/worlds", BEARER, "Connection: close", host=name) for name in hosts]
    requests += [_request("/play", BEARER, *UPGRADE, host=name) for name in hosts]
    requests += [_request("/worlds", BEARER, f"Origin: {o}", "Connection: close") for o in origins]
    requests += [_request("/play", BEARER, f"Origin: {o}", *UPGRADE) for o in origins]
    return await _refused(host, port, requests, {400, 403})


async def smuggled(host: str, port: int, dice: random.Random) -> int:
    """Requests whose end two programs see differently: the second one must not be answered."""
    inner = _request("/metrics", BEARER).decode()
    chunked = f"0\r\n\r\n{inner}"
    pairs = [
        (["Content-Length: 4", "Transfer-Encoding: chunked"], chunked),
        (["Transfer-Encoding: chunked", "Content-Length: 4"], chunked),
        (["Content-Length: 0", f"Content-Length: {len(inner)}"], inner),
        (["Content-Length: +0"], inner),
        (["Content-Length: 0x0"], inner),
        (["Content-Length : 0"], inner),
        (["Transfer-Encoding: xchunked", "Content-Length: 0"], inner),
        (["Transfer-Encoding: chunked, identity"], chunked),
        (["Transfer-Encoding : chunked"], chunked),
        (["Transfer-Encoding:\x0bchunked", "Content-Length: 0"], inner),
        (["X: y\nTransfer-Encoding: chunked"], chunked),
        (["Transfer-Encoding: chunked"], "-1\r\n\r\n" + inner),
        (["Transfer-Encoding: chunked"], "fffffffffffffffff\r\n" + inner),
    ]
    unclear = 0
    for headers, body in pairs:
        data = _request("/worlds", *headers, method="POST") + body.encode()
        found = _statuses(await _raw(host, port, data, 1.0))
        if 200 in found:  # it needs no token for the first, and has one for the second
            raise Fell(f"a smuggled request was answered: {found} to {headers}")
        if any(status >= 500 for status in found):
            raise Fell(f"{found} to {headers}")
        unclear += len(found)
    return len(pairs)


async def floods(host: str, port: int, dice: random.Random) -> int:
    """Very many and very long headers, addresses and lines without an end."""
    requests = [
        _request("/worlds", BEARER, *[f"X-{i}: {i}" for i in range(20_000)]),
        _request("/worlds", BEARER, "X: " + "a" * 5_000_000),
        _request("/" + "a" * 3_000_000, BEARER),
        _request(
            "/worlds?" + "&".join(f"a{i}=1" for i in range(50_000)), BEARER, "Connection: close"
        ),
        _request("/worlds", "Cookie: " + "; ".join(f"a{i}=1" for i in range(50_000))),
        b"A" * 5_000_000,
        dice.randbytes(100_000),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00" + dice.randbytes(500),
        b"GET /worlds HTTP/9.9\r\n\r\n",
        b"\r\n" * 500_000,
    ]
    return await _refused(host, port, requests, {200, 400, 401, 403, 404, 413, 414, 431})


async def loris(host: str, port: int, dice: random.Random) -> int:
    """Clients that send a byte now and then, and some that send nothing."""
    opened = []
    for number in range(300):
        _, writer = await asyncio.open_connection(host, port)
        if number % 3:
            writer.write(b"GET /worlds HTTP/1.1\r\nHost: localhost\r\nX: ")
        opened.append(writer)
    for _ in range(20):
        for writer in opened[::5]:
            with contextlib.suppress(OSError):
                writer.write(b"a")
        await asyncio.sleep(0.1)
    await _expect_service(host, port)
    for writer in opened:
        writer.close()
    return len(opened)


async def half_open(host: str, port: int, dice: random.Random) -> int:
    """Connections that end without a word, or in the middle of one."""
    for number in range(600):
        _, writer = await asyncio.open_connection(host, port)
        if number % 2:
            writer.write(_request("/play", BEARER, *UPGRADE)[: dice.randrange(1, 200)])
        if number % 3:
            abort = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, abort)
        writer.close()
    await _expect_service(host, port)
    return 600


async def _expect_service(host: str, port: int) -> None:
    found = _statuses(await _raw(host, port, _request("/worlds", BEARER, "Connection: close"), 15))
    if found != [200]:
        raise Fell(f"others were answered {found} meanwhile")


def _frame(code: int, body: bytes, reserved: int = 0, final: bool = True) -> bytes:
    head = bytes([(0x80 if final else 0) | reserved | code])
    size = len(body)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += bytes([0x80 | 126]) + struct.pack(">H", size)
    else:
        head += bytes([0x80 | 127]) + struct.pack(">Q", size)
    return head + bytes(4) + body


async def frames(host: str, port: int, dice: random.Random) -> int:
    """WebSocket frames that break its rules: compression bombs, endless messages, wrong codes."""
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(bytes(100_000_000)) + packer.flush(zlib.Z_SYNC_FLUSH)
    attacks = [
        _frame(1, bomb, 0x40),
        _frame(1, b"{}", 0x20),
        _frame(1, b'{"type": "keys"', final=False) + _frame(0, b" " * 60_000, final=False) * 100,
        _frame(9, b"x" * 125) * 20_000,
        _frame(9, b"x" * 5000),
        _frame(8, b"\x00"),
        _frame(8, struct.pack(">H", 99)),
        _frame(3, b""),
        _frame(0, b"more"),
        _frame(1, b"\xff\xfe\xfd"),
        b"\x81\xff" + struct.pack(">Q", 2**63 - 1) + bytes(4),
        b"\x81\x05hello",
        _frame(2, dice.randbytes(70_000)),
        dice.randbytes(5000),
    ]
    deflate = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    for data in attacks:
        answer = await _raw(host, port, _request("/play", BEARER, deflate, *UPGRADE) + data, 1.0)
        if b"permessage-deflate" in answer:
            raise Fell("the server takes compressed messages")
        if any(status >= 500 for status in _statuses(answer)):
            raise Fell(f"{_statuses(answer)} to {data[:40]!r}")
    return len(attacks)


GOOD: list[dict[str, Any]] = [
    {"type": "start", "seq": 1, "prompt": 0, "seed": 3},
    {"type": "keys", "seq": 2, "held": [1, 0]},
    {"type": "idle", "action": 1},
    {"type": "step", "seq": 3, "action": 1},
    {"type": "undo", "seq": 4, "steps": 3},
    {"type": "branch"},
    {"type": "switch", "game": 0},
    {"type": "sampling", "steps": 3, "temperature": 0.5},
    {"type": "peek", "steps": 2},
    {"type": "ack", "frame": 1},
]
ODD = [None, True, -1, 2**31, 2**64, 1e308, "x", "\0", [], [1] * 70, {}, [[]], "9" * 999, "\ud800"]


async def messages(host: str, port: int, dice: random.Random) -> int:
    """Messages of players with values that are wrong."""
    counts = await asyncio.gather(*(_misplay(host, port, dice, 400) for _ in range(AT_ONCE)))
    return sum(counts)


async def _misplay(host: str, port: int, dice: random.Random, count: int) -> int:
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed

    sent, headers = 0, {"Authorization": f"Bearer {TOKEN}"}
    while sent < count:
        async with connect(f"ws://{host}:{port}/play", additional_headers=headers) as player:
            with contextlib.suppress(ConnectionClosed):
                for _ in range(dice.randrange(1, 40)):
                    message = dict(dice.choice(GOOD))
                    for _ in range(dice.randrange(3)):
                        message[dice.choice([*message, "extra", "__class__"])] = dice.choice(ODD)
                    await player.send(json.dumps(message))
                    sent += 1
                await player.send(b"the end")
                while True:
                    await asyncio.wait_for(player.recv(), 10)
            if player.close_code == 1011:
                raise Fell("a message ended the server's side with an error")
    return sent


@cache
def _bombs() -> tuple[bytes, ...]:
    from campaign.attacks.hostile import _bomb_of, _text_bomb

    dice = random.Random(0)
    return _bomb_of(6_000)(dice), _text_bomb(dice)


async def uploads(host: str, port: int, dice: random.Random) -> int:
    """Bodies that are no pictures, or claim what they are not."""
    from campaign.attacks.hostile import _png

    bodies = [
        b"", dice.randbytes(9999), _png(2**31 - 1, 2**31 - 1), b"GIF89a", b"%PDF", b"MZ" * 99,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>", *_bombs(),
    ]  # fmt: skip
    requests = []
    for body in bodies * 20:
        path = dice.choice(("/generate?actions=1", "/worlds/world/reconstruction"))
        claim = dice.choice((len(body), len(body), len(body) + 9, max(0, len(body) - 9)))
        headers = (BEARER, f"Content-Length: {claim}", "Connection: close")
        requests.append(_request(path, *headers, method="POST") + body)
    return await _refused(host, port, requests, {200, 400, 408, 411, 413, 415, 422})


ABUSES: tuple[Abuse, ...] = (
    tokens, foreign, smuggled, floods, loris, half_open, frames, messages, uploads,
)  # fmt: skip


# -- the server and its player -------------------------------------------------------------------

FPS, QUIET_SECONDS = 10.0, 3.0
INTENDED: dict[str, int] = {"messages": 50_000, "uploads": 5_000, "half_open": 10_000}
"""Tries of the siege; what is not named is done twice."""


@contextlib.contextmanager
def serving(worlds: list[Path], own: Path, token: str | None) -> Iterator[tuple[int, int]]:
    """A server of worlds in a process of its own; gives its port and the process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = harness.fork(lambda: _serve(worlds, port, token), own / "server")
    try:
        deadline = time.monotonic() + 300  # on a busy machine imports alone take a minute
        while not healthy(port):
            if time.monotonic() > deadline:
                raise RuntimeError("the server did not start")
            time.sleep(0.1)
        yield port, server
    finally:
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)


def _serve(worlds: list[Path], port: int, token: str | None) -> None:
    from genie.serving.limits import Limits
    from genie.serving.server import serve

    limits = Limits(players=64, messages_per_second=100_000)
    serve(*worlds, port=port, token=token, limits=limits, device="cpu")


async def _play(port: int, path: Path) -> None:
    """Plays without end; writes when each frame came."""
    from websockets.asyncio.client import connect

    headers, number = {"Authorization": f"Bearer {TOKEN}"}, 0
    async with connect(f"ws://127.0.0.1:{port}/play", additional_headers=headers) as player:
        await player.send(json.dumps({"type": "start", "seq": 1, "prompt": 0, "seed": 1}))
        with path.open("w", buffering=1) as file:
            while True:
                message = await asyncio.wait_for(player.recv(), 30)
                if isinstance(message, bytes):
                    print(time.monotonic(), file=file)
                    await player.send(json.dumps({"type": "ack", "frame": number}))
                    if number % 50 == 0:  # a game without inputs ends
                        await player.send(json.dumps({"type": "idle", "action": number // 50 % 4}))
                    number += 1


@contextlib.contextmanager
def _playing(port: int, own: Path) -> Iterator[Path]:
    """A player in a process of its own; gives the file of times."""
    path = own / "times"
    player = harness.fork(lambda: asyncio.run(_play(port, path)), own / "player")
    try:
        time.sleep(1)  # the first frames of a game come at once
        yield path
        if os.waitpid(player, os.WNOHANG)[0]:
            raise Fell(f"a player was thrown out: {(own / 'player').read_text()[-200:]}")
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(player, signal.SIGKILL)
            os.waitpid(player, 0)


def _waits(path: Path, spans: list[tuple[float, float]]) -> np.ndarray:
    """Returns the milliseconds from frame to frame that ended in spans of time."""
    times = np.array([float(line) for line in path.read_text().split()])
    inside = np.zeros(len(times) - 1, bool)
    for began, ended in spans:
        inside |= (times[1:] > began) & (times[1:] <= ended)
    return 1e3 * np.diff(times)[inside]


def _p99(path: Path, spans: list[tuple[float, float]]) -> float:
    waits = _waits(path, spans)
    return float(np.percentile(waits, 99)) if len(waits) else 0.0


def resident(process: int) -> float:
    rows = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmRSS")) / 1024


def healthy(port: int) -> bool:
    with contextlib.suppress(OSError, urllib.error.URLError):
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=20).status == 200
    return False


def _timed(act: Callable[[], object]) -> tuple[float, float]:
    began = time.monotonic()
    act()
    return began, time.monotonic()


def _check_after(port: int, own: Path, grown: float, what: str) -> None:
    if not healthy(port):
        raise Fell(f"{what}: the server is not ready afterwards")
    if grown > 100:
        raise Fell(f"{what}: memory grew by {grown:.0f} MB")
    if "Traceback" in (said := (own / "server").read_text()):
        raise Fell(f"{what}: {said.strip().splitlines()[-1]}")


def _abused(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    """One way of abuse."""
    abuse = dice.choice(ABUSES)
    with serving([shared / "world"], own, TOKEN) as (port, server), _playing(port, own) as times:
        memory = resident(server)
        quiet = _timed(lambda: time.sleep(QUIET_SECONDS))
        tries: list[int] = []
        loud = _timed(lambda: tries.append(asyncio.run(abuse("127.0.0.1", port, dice))))
        grown = resident(server) - memory
        _check_after(port, own, grown, abuse.__name__)
        ratio = _p99(times, [loud]) / _p99(times, [quiet])
    return abuse.__name__, {
        "MB grown": round(grown, 1),
        "tries": tries[0],
        "p99 ratio": round(ratio, 2),
    }


def _siege(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    """All ways one after the other, again and again, with quiet between them."""
    counts: Counter[str] = Counter()
    quiet: list[tuple[float, float]] = []
    loud: dict[str, list[tuple[float, float]]] = {}
    memory = 0.0
    with serving([shared / "world"], own, TOKEN) as (port, server), _playing(port, own) as times:
        for turn in count():
            due = [
                a for a in ABUSES if turn < 2 or counts[a.__name__] < INTENDED.get(a.__name__, 0)
            ]
            if not due:
                break
            for abuse in due:
                quiet.append(_timed(lambda: time.sleep(QUIET_SECONDS)))

                def go(abuse: Abuse = abuse) -> None:
                    counts[abuse.__name__] += asyncio.run(abuse("127.0.0.1", port, dice))

                loud.setdefault(abuse.__name__, []).append(_timed(go))
            if turn == 1:  # libraries that are loaded late, and caches, are there by now
                memory = resident(server)
        grown = resident(server) - memory
        _check_after(port, own, grown, "siege")
        before, every = _p99(times, quiet), [*chain(*loud.values())]
        ratios = {  # some are over before the player gets a frame
            f"p99 ratio in {name}": round(_p99(times, spans) / before, 2)
            for name, spans in loud.items()
            if len(_waits(times, spans))
        }
        ratios["p99 ratio"] = round(_p99(times, every) / before, 2)
        worst = float(_waits(times, every).max())
    tried = {f"tries of {name}": tries for name, tries in counts.items()}
    figures = {"MB grown": round(grown, 1), "p99 before, ms": round(before, 1)}
    return "siege", {**tried, **ratios, **figures, "longest wait, ms": round(worst)}


MODULES = (
    "genie.serving.server", "websockets.asyncio.client", "uvicorn.protocols.http.h11_impl",
)  # fmt: skip
ATTACKS = (
    Attack(
        "server",
        f"a server is abused while another plays, in one of {len(ABUSES)} ways: guessed tokens, "
        "foreign hosts and origins, smuggling, floods, slow and half-open clients, frames, "
        "messages, uploads",
        "no answer of 5xx, no way in, ready afterwards, memory grows by less than 100 MB",
        45,
        _abused,
        lambda shared: toys.save_world(shared / "world", 0, fps=FPS),
        MODULES,
        200,
    ),
    Attack(
        "siege",
        "all of these in one run: 50,000 messages, 5,000 uploads, 10,000 connections that are "
        "left half-open, and the others, with quiet between them",
        "as above",
        1,
        _siege,
        lambda shared: toys.save_world(shared / "world", 0, fps=FPS),
        MODULES,
        3000,
    ),
)
