"""Games that outlive their servers: replicas behind a proxy, one killed every few seconds.

Players take steps, and remember their actions and the newest resume token. A player whose server
died connects again through the proxy, and continues the game on whichever replica answers. Before
that, a game of a minute is continued twice: from a state that another replica kept, and by playing
it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import secrets
import signal
import socket
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser
from asyncio.subprocess import Process
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _machine import tell
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from genie.serving.protocol import HEADER

LOST = (OSError, WebSocketException, InvalidHandshake, TimeoutError, EOFError)
SILENCE = 10.0
"""Seconds without a frame after which a player connects again."""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--world", default="coinrun-tiny")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--players", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--kill-every", type=float, default=10)
    parser.add_argument("--steps-per-second", type=float, default=3)
    parser.add_argument("--long-game", type=int, default=600, help="steps of the game of a minute")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ["GENIE_RESUME_KEY"] = secrets.token_hex(32)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as options.states:
        tell(asyncio.run(measure(options)), options.json)


async def measure(options: Any) -> dict[str, Any]:
    """Plays while replicas die."""
    replicas = [Replica(options) for _ in range(options.replicas)]
    load = os.getloadavg()[0]
    await asyncio.gather(*(replica.start() for replica in replicas))
    moved = await continue_a_long_game(replicas, options)
    proxy = await asyncio.start_server(lambda r, w: forward(r, w, replicas), "127.0.0.1", 0)
    address = f"ws://127.0.0.1:{proxy.sockets[0].getsockname()[1]}/play?world={options.world}"
    until = time.monotonic() + options.seconds
    players = [
        Player(address, seed, 1 / options.steps_per_second) for seed in range(options.players)
    ]
    killing = asyncio.create_task(kill_often(replicas, options.kill_every, until))
    await asyncio.gather(*(player.play(until) for player in players))
    kills = await killing
    await asyncio.gather(*(replica.end() for replica in replicas))
    takeovers = [seconds for player in players for seconds in player.takeovers]
    stalls = sorted(max(player.stalls, default=0.0) for player in players)
    return {
        "world": options.world,
        "replicas": options.replicas,
        "players": options.players,
        "seconds": options.seconds,
        "kills": kills,
        **moved,
        "load_average_before_and_after": [round(load, 1), round(os.getloadavg()[0], 1)],
        "starts_of_a_replica": [round(s, 1) for each in replicas for s in each.starts],
        "steps": sum(len(player.actions) for player in players),
        "takeovers": len(takeovers),
        "games_lost": sum(player.lost for player in players),
        "frames_compared_after_takeover": sum(player.compared for player in players),
        "frames_that_differed": sum(player.differed for player in players),
        "longest_stall": round(stalls[-1], 2),
        "median_of_players_longest_stalls": round(statistics.median(stalls), 2),
        "longest_takeover": round(max(takeovers, default=0.0), 2),
        "median_takeover": round(statistics.median(takeovers), 2) if takeovers else None,
        "longest_game_taken_over": max((player.longest for player in players), default=0),
    }


class Replica:
    """A server in a process of its own, on a port that it keeps."""

    def __init__(self, options: Any) -> None:
        self.world, self.states, self.alive = options.world, options.states, False
        self.starts: list[float] = []
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.process: Process | None = None
        self.players = 0

    async def start(self) -> None:
        """Starts it, and returns when it is ready."""
        began = time.monotonic()
        command = ["-m", "genie", "serve", self.world, "--port", str(self.port)]
        command += ["--handover", self.states]
        nowhere = asyncio.subprocess.DEVNULL
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=nowhere, stderr=nowhere
        )
        # In a cluster it starts on cores of its own; here it leaves them to those that play.
        os.setpriority(os.PRIO_PROCESS, self.process.pid, 10)
        while not self.alive:
            await asyncio.sleep(0.1)
            self.alive = await self._ready()
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            os.setpriority(os.PRIO_PROCESS, int(thread), 0)
        self.starts.append(time.monotonic() - began)

    async def kill(self) -> None:
        """Kills it, and starts it again."""
        await self._ended(signal.SIGKILL)
        await self.start()

    async def end(self) -> None:
        """Ends it."""
        await self._ended(signal.SIGTERM)

    async def _ended(self, how: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, how)
        self.alive = False
        await self.process.wait()

    async def _ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.write(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        with contextlib.suppress(OSError):
            answer = await reader.read(64)
            return b" 200 " in answer
        return False


async def continue_a_long_game(replicas: list[Replica], options: Any) -> dict[str, Any]:
    """Plays a minute's worth of steps on one replica, then continues twice on another one."""
    first, second = (f"ws://127.0.0.1:{r.port}/play?world={options.world}" for r in replicas[:2])
    player, dice = Player(first, 99, 0), random.Random(99)
    async with connect(first, open_timeout=5) as socket:
        await player._begin(socket)
        while len(player.actions) < options.long_game:
            await player._step(socket, dice.randrange(6))
    seconds = {}
    for how in ("state", "replay"):
        began = time.monotonic()
        async with connect(second, open_timeout=5) as socket:
            await player._begin(socket)
        seconds[f"seconds_to_continue_{options.long_game}_steps_by_{how}"] = round(
            time.monotonic() - began, 2
        )
        player.token = ""
    return {**seconds, "pictures_of_it_that_differed": player.differed}


async def forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replicas: list[Replica]
) -> None:
    """Passes a connection on to a replica that is ready, and ends it when either side does."""
    for replica in sorted(replicas, key=lambda each: (each.players, random.random())):
        if not replica.alive:
            continue
        with contextlib.suppress(OSError):
            behind = await asyncio.open_connection("127.0.0.1", replica.port)
            break
    else:
        writer.close()
        return
    replica.players += 1
    ways = [copied(reader, behind[1]), copied(behind[0], writer)]
    await asyncio.wait([asyncio.create_task(way) for way in ways], return_when="FIRST_COMPLETED")
    replica.players -= 1
    for side in (writer, behind[1]):
        side.close()


async def copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


async def kill_often(replicas: list[Replica], every: float, until: float) -> int:
    """Kills one replica after the other, where another one is there; returns how many."""
    kills, restarting = 0, set()
    while time.monotonic() + every < until:
        await asyncio.sleep(every)
        alive = [replica for replica in replicas if replica.alive]
        if len(alive) > 1:
            kills += 1
            restarting.add(asyncio.create_task(random.choice(alive).kill()))
    await asyncio.gather(*restarting)
    return kills


@dataclass
class Player:
    """Plays random actions at a pace, one step after the frame of the last one.

    Attributes:
        address: of the proxy.
        seed: of the game and the actions.
        pace: seconds between two steps, at least.
        actions: all of the game.
        token: of the newest note.
        seen: hash of the picture of each step.
        takeovers: seconds from a lost connection to a frame of the same game.
        stalls: seconds between two frames.
    """

    address: str
    seed: int
    pace: float
    actions: list[int] = field(default_factory=list)
    token: str = ""
    seen: dict[int, str] = field(default_factory=dict)
    takeovers: list[float] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    compared: int = 0
    differed: int = 0
    longest: int = 0
    lost: int = 0
    last_frame: float | None = None

    async def play(self, until: float) -> None:
        """Plays to the end, on one server after the other."""
        dice, lost_at = random.Random(self.seed), None
        while time.monotonic() < until:
            try:
                async with connect(self.address, open_timeout=5) as socket:
                    await self._begin(socket)
                    if lost_at is not None:
                        self.takeovers.append(time.monotonic() - lost_at)
                        self.longest = max(self.longest, len(self.actions))
                    lost_at = None
                    while time.monotonic() < until:
                        await asyncio.sleep(self.pace)
                        await self._step(socket, dice.randrange(8))
            except LOST:
                lost_at = lost_at or time.monotonic()
                await asyncio.sleep(0.05)
        self.lost = int(lost_at is not None)

    async def _begin(self, socket: ClientConnection) -> None:
        game = {"prompt": 0, "seed": self.seed, "actions": self.actions, "resume": self.token}
        await socket.send(json.dumps({"type": "pause", "paused": True}))
        await socket.send(json.dumps({"type": "start", "seq": 0, **game}))
        await socket.send(json.dumps({"type": "pause", "paused": True}))
        await self._frame(socket, len(self.actions))

    async def _step(self, socket: ClientConnection, action: int) -> None:
        self.actions.append(action)  # a step whose frame was not seen is played again
        number = len(self.actions)
        await socket.send(json.dumps({"type": "step", "seq": number, "action": action}))
        await self._frame(socket, number)

    async def _frame(self, socket: ClientConnection, step: int) -> None:
        """Waits for the frame of a step; those before are acknowledged as well."""
        while True:
            data = await asyncio.wait_for(socket.recv(), SILENCE)
            if isinstance(data, str):
                note = json.loads(data)
                assert note["type"] != "refused", note
                self.token = note.get("token", self.token)
                continue
            _, _, preview, frame, _, at, _ = HEADER.unpack_from(data)
            if preview:
                continue
            await socket.send(json.dumps({"type": "ack", "frame": frame}))
            self._compare(at, data[HEADER.size :])
            if at == step:
                break
        now = time.monotonic()
        if self.last_frame is not None:
            self.stalls.append(now - self.last_frame)
        self.last_frame = now

    def _compare(self, step: int, picture: bytes) -> None:
        found = hashlib.sha256(picture).hexdigest()
        if step in self.seen:
            self.compared += 1
            self.differed += self.seen[step] != found
        self.seen[step] = found


if __name__ == "__main__":
    main()
