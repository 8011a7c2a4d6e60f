"""Players for half an hour, while their worlds are exchanged on disk and processes stand still."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from campaign import harness
from campaign.attacks import toys
from campaign.attacks.server import MODULES, healthy, resident, serving
from campaign.harness import Attack, Fell, Figures

ROOT = Path(__file__).parents[2]
PLAYERS, SECONDS = 8, float(os.environ.get("GENIE_CROWD_SECONDS", "1800"))
STEPS_PER_SECOND = 1.5
STILL_SECONDS, PAUSE_SECONDS = (1.0, 15.0), 20.0
"""How long a process stands still, and how long none does."""
WORLDS = ("one", "two")


def _prepare(shared: Path) -> None:
    for seed, name in enumerate((*WORLDS, "other")):
        toys.save_world(shared / name, seed, num_actions=8)


def _exchange(folder: Path, shared: Path, number: int) -> None:
    """Puts another world, or the first one again, in the place of one that is played."""
    name = WORLDS[number % 2]
    old, new = folder / f".{number}.old", folder / f".{number}.new"
    shutil.copytree(shared / ("other" if number // 2 % 2 == 0 else name), new)
    (folder / name).rename(old)
    new.rename(folder / name)
    shutil.rmtree(old)


def _play(address: str, seed: int, until: float, result: Path) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import numpy as np
    from replicas import Player

    from genie.data.images import Codec, decode_picture

    largest: list[int] = [0]
    frames: dict[int, np.ndarray] = {}

    class Exact(Player):
        """Sums over a batch of another size may be rounded otherwise: differences are measured."""

        def _compare(self, step: int, picture: bytes) -> None:
            frame = decode_picture((Codec.WEBP, picture)).astype(int)
            known = frames.setdefault(step, frame)
            if known is not frame:
                difference = int(np.abs(frame - known).max())
                largest.append(max(difference, largest.pop()))
                self.compared += 1
                self.differed += difference > 0

    player = Exact(address, seed, 1 / STEPS_PER_SECOND)
    asyncio.run(player.play(until))
    about = {
        "steps": len(player.actions),
        "lost": player.lost,
        "compared": player.compared,
        "differed": player.differed,
        "difference": largest[0],
        "connections": 1 + len(player.takeovers),
        "stall": max(player.stalls, default=0.0),
    }
    result.write_text(json.dumps(about))


def _disturb(
    processes: list[int], folder: Path, shared: Path, dice: random.Random, until: float
) -> tuple[int, int]:
    """Stops and continues processes and exchanges worlds; returns how often it did either."""
    stops = exchanges = 0
    while time.monotonic() + STILL_SECONDS[1] + PAUSE_SECONDS < until:
        victim = processes[0] if dice.random() < 0.4 else dice.choice(processes[1:])
        os.kill(victim, signal.SIGSTOP)
        _exchange(folder, shared, exchanges)
        time.sleep(dice.uniform(*STILL_SECONDS))
        os.kill(victim, signal.SIGCONT)
        stops, exchanges = stops + 1, exchanges + 1
        time.sleep(PAUSE_SECONDS)
    return stops, exchanges


def _trial(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    folder = own / "worlds"
    for name in WORLDS:
        shutil.copytree(shared / name, folder / name)
    with serving([folder / name for name in WORLDS], own, None) as (port, server):
        until = time.monotonic() + SECONDS
        players = []
        for seed in range(PLAYERS):
            address = f"ws://127.0.0.1:{port}/play?world={WORLDS[seed % 2]}"
            result = own / f"player-{seed}.json"
            players.append(
                harness.fork(
                    lambda a=address, s=seed, r=result: _play(a, s, until, r), own / f"said-{seed}"
                )
            )
        time.sleep(SECONDS / 10)
        memory = resident(server)
        stops, exchanges = _disturb([server, *players], folder, shared, dice, until - 30)
        codes = [harness.ended(player, SECONDS)[0] for player in players]
        grown = resident(server) - memory
        if not healthy(port):
            raise Fell("the server is not ready afterwards")
    if any(codes):
        raise Fell(f"players ended with {codes}")
    found = [json.loads((own / f"player-{seed}.json").read_text()) for seed in range(PLAYERS)]
    lost, differed = (sum(each[key] for each in found) for key in ("lost", "differed"))
    difference = max(each["difference"] for each in found)
    if lost or difference > 1:
        raise Fell(f"{lost} games were lost, {differed} frames differed by up to {difference}")
    if grown > 50:
        raise Fell(f"memory grew by {grown:.0f} MB")
    if "Traceback" in (said := (own / "server").read_text()):
        raise Fell(said.strip().splitlines()[-1])
    figures = {
        "minutes": SECONDS / 60,
        "steps": sum(each["steps"] for each in found),
        "processes stopped": stops,
        "worlds exchanged": exchanges,
        "games taken up again": sum(each["connections"] - 1 for each in found),
        "frames compared then": sum(each["compared"] for each in found),
        "of these differ by 1 of 255": differed,
        "longest stall, s": round(max(each["stall"] for each in found), 1),
        "MB grown": round(grown, 1),
    }
    return "all games go on", figures


ATTACKS = (
    Attack(
        "crowd",
        "eight players of two worlds, while the server or a player stands still for 15 seconds "
        "at most (SIGSTOP) and the folders of the worlds are exchanged",
        "no game is lost, frames are the same but for rounding when a game is taken up again, "
        "memory grows by less than 50 MB",
        1,
        _trial,
        _prepare,
        MODULES,
        SECONDS + 600,
    ),
)
