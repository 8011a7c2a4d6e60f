"""What earlier versions of the program wrote, opened by this one."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from campaign import harness
from campaign.attacks import toys
from campaign.attacks.hostile import _done
from campaign.harness import Attack, Fell, Figures

ROOT = Path(__file__).parents[2]
WEIGHTS = "model.safetensors"
COMMITS = {
    "994b909": "the first training",
    "4f01d93": "start positions are waves",
    "853042d": "actions choose what changed",
    "f8a8a70": "checkpoints of format 1",
    "7d984c7": "checkpoints of format 2",
    "35c285e": "checkpoints of format 3",
    "d3199eb": "training is watched",
    "be756a9": "action noise",
    "ba37ca6": "the first replays",
    "bfbd6bd": "noise is a function of its key",
    "a6ba615": "replays hold their dtype",
    "be37e60": "devices and dtypes have one list",
    "a40fbae": "tokens are computed in pieces",
    "8a3e6e5": "stores hold rewards",
    "7fad16f": "the last with the oldest keys",
    "93e5087": "keys were renamed",
    "49c0f92": "options were renamed",
    "4971501": "backbones of tokenizers",
    "e1b2645": "heads for rewards, shards of stores",
    "563f0b5": "kinds of latent action models",
    "69a2466": "tokens of several codebooks",
    "2127b8f": "MaskGIT steps have one name",
    "83aedd4": "tokens are computed by several processes",
    "356e958": "checkpoints of several processes",
}
"""Versions around each change of a format, by what was new."""


def _git(*arguments: str) -> bytes:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


def _make(shared: Path, own: Path, commit: str) -> None:
    """Lets the program of a commit make a store, a killed run and a replay."""
    with tarfile.open(fileobj=BytesIO(_git("archive", commit, "src"))) as archive:
        archive.extractall(own, filter="data")
    maker = str(ROOT / "campaign" / "earlier.py")
    command = [sys.executable, maker, str(shared / "videos"), str(own)]
    environment = {**os.environ, "PYTHONPATH": str(own / "src")}
    made = subprocess.run(command, env=environment, capture_output=True, text=True)
    if made.returncode:
        raise RuntimeError(f"{commit} made nothing: {made.stderr.strip()[-200:]}")


def _read_store(own: Path) -> None:
    import numpy as np

    from genie.data.store import ClipStore

    store = ClipStore.open(own / "store")
    read = store.windows(store.window_starts(8)[::10], 8)
    if not np.array_equal(read, np.load(own / "windows.npy")):
        raise Fell("the store holds other frames than before")


def _play(own: Path) -> list[str]:
    return ["generate", str(own / "run"), "--frames", "4", "--out", str(own / "clip.gif")]


def _replay(own: Path) -> None:
    import numpy as np

    from genie.world.genie import Genie
    from genie.world.replay import Replay

    world = Genie.from_pretrained(own / "run", "cpu")
    frames = np.stack(list(Replay.read(own / "game.json").frames(world)))[1:]
    if not np.array_equal(frames, np.load(own / "frames.npy")):
        raise Fell("the replay shows other frames than the game")


def _go_on(own: Path) -> None:
    from rich.console import Console

    from genie.training.pipeline import train

    with (own / "training").open("w") as file:
        train(own / "store", own / "run", console=Console(file=file))


def _word(what: str, act: list[str] | Callable[[], None], own: Path) -> str:
    """Does it in a process of its own; returns "opens", or "refused" after one sentence."""
    code, said = harness.called(lambda: _done(act), output=own / f"{what}.txt", limit=120)
    lines = [line for line in said.splitlines() if line.startswith("genie:")]
    if code not in (0, 2) or (code == 2 and len(lines) != 1):
        raise Fell(f"{what}: {said.strip()[-300:]}")
    with (own.parent.parent / "versions.log").open("a") as log:
        log.write(f"{own.name} {what}: {code} {' '.join(lines)}\n")
    return "refused" if code else "opens"


def _open_all(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    commit = list(COMMITS)[int(own.name.rpartition("-")[2])]
    _make(shared, own, commit)
    acts: dict[str, list[str] | Callable[[], None]] = {
        "store": lambda: _read_store(own),
        "world": _play(own),
        "replay": lambda: _replay(own),
        "checkpoint": lambda: _go_on(own),
    }
    if not (own / "game.json").exists():
        del acts["replay"]
    words = {what: _word(what, act, own) for what, act in acts.items()}
    opened = [what for what, word in words.items() if word == "opens"]
    refused = [what for what, word in words.items() if word == "refused"]
    return f"opens {', '.join(opened)}" + (f"; refuses {', '.join(refused)}" * bool(refused)), {}


# -- worlds that came with the repository --------------------------------------------------------


def _earlier_worlds() -> list[tuple[str, str]]:
    """Returns commit and folder of each world that the history holds, newest first."""
    log = _git("log", "--format=%H", "--name-only", "--diff-filter=AM", "--", f"*/{WEIGHTS}")
    found, commit = [], ""
    for line in log.decode().splitlines():
        if len(line) == 40 and "/" not in line:
            commit = line
        elif line.endswith(WEIGHTS) and not line.endswith(f"mapper/{WEIGHTS}"):
            found.append((commit, line.removesuffix(f"/{WEIGHTS}")))
    return found


def _extract(commit: str, inside: str, folder: Path) -> None:
    for name in _git("ls-tree", "-r", "--name-only", commit, inside).decode().splitlines():
        path = folder / Path(name).relative_to(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_git("show", f"{commit}:{name}"))


def _play_earlier(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    worlds = _earlier_worlds()
    commit, inside = worlds[int(own.name.rpartition("-")[2]) % len(worlds)]
    _extract(commit, inside, own / "run")
    return _word(f"{commit[:7]} {Path(inside).name}", _play(own), own), {}


MODULES = ("genie.training.pipeline", "genie.world.generate", "genie.cli.commands.generate")
ATTACKS = (
    Attack(
        "versions",
        f"stores, worlds, replays and unfinished trainings of {len(COMMITS)} earlier versions of "
        "the program, which make them anew",
        "the store and the replay show the same frames, the world plays, the training goes on; or "
        "one sentence says what to do",
        len(COMMITS),
        _open_all,
        lambda shared: toys.make_videos(shared / "videos", 4),
        (*MODULES, "tensorstore", "tensorboard", "torch.utils.tensorboard", "jsonargparse"),
        300,
    ),
    Attack(
        "earlier-worlds",
        "worlds that came with earlier commits of the repository are played",
        "they play, or one sentence says what to do",
        10,
        _play_earlier,
        modules=MODULES,
    ),
)
