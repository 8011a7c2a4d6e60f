"""Little memory, and worlds of earlier versions of the program."""

from __future__ import annotations

import contextlib
import io
import random
import resource
import shutil
import subprocess
from pathlib import Path

from campaign import harness
from campaign.attacks import toys
from campaign.attacks.hostile import _done, _virtual
from campaign.harness import Attack, Fell, Figures

ROOT = Path(__file__).parents[2]
WEIGHTS = "model.safetensors"


def _prepare(shared: Path) -> None:
    harness.called(lambda: toys.make_store(shared / "data").name, output=shared / "store")
    toys.save_world(shared / "world", 0)
    shutil.copytree(shared / "data", shared / "fresh")
    toys.train_toy(shared / "data", shared / "whole")


def _starve(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    """Trains or generates with a limit of memory, and again without."""
    train = dice.random() < 0.6
    megabytes = dice.choice((2, 8, 20, 50, 100, 200, 400))
    data, out = shutil.copytree(shared / "fresh", own / "data"), own / "run"

    def go(limit: bool) -> tuple[int, str]:
        if limit:
            resource.setrlimit(resource.RLIMIT_AS, (_virtual() + megabytes * 2**20, -1))
        if train:
            return _done(lambda: toys.train_toy(data, out))
        clip = own / "clip.gif"
        return _done(["generate", str(shared / "world"), "--frames", "2", "--out", str(clip)])

    what = f"{'train' if train else 'generate'} with {megabytes} MB"
    try:
        code, said = harness.called(go, True, output=own / "starved")
    except Fell as error:
        raise Fell(f"{what}: the process ended, {error}") from None
    if code not in (0, 2) or (code == 2 and "memory" not in said):
        raise Fell(f"{what}: {said.strip()[-300:]}")
    again, said = harness.called(go, False, output=own / "again")
    if again != 0:
        raise Fell(f"{what}: then without a limit: {said.strip()[-300:]}")
    if train and toys.digest(out, WEIGHTS) != toys.digest(shared / "whole", WEIGHTS):
        raise Fell(f"{what}: then other weights")
    return "said" if code else "enough memory", {}


def _git(*arguments: str) -> bytes:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


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


def _open_earlier(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    worlds = _earlier_worlds()
    commit, inside = worlds[int(own.name.rpartition("-")[2]) % len(worlds)]
    _extract(commit, inside, own / "world")
    clip = own / "clip.gif"
    with contextlib.redirect_stdout(io.StringIO()):
        code, said = _done(["generate", str(own / "world"), "--frames", "4", "--out", str(clip)])
    if code not in (0, 2) or (code == 2 and len(said.strip().splitlines()) != 1):
        raise Fell(f"{inside} of {commit[:8]}: {said[-300:]}")
    return "plays" if code == 0 else f"refused: {said.strip()[-120:]}", {}


MODULES = ("genie.training.pipeline", "genie.world.generate", "genie.cli.commands.generate")
ATTACKS = (
    Attack(
        "memory",
        "training or generating with 2 to 400 MB of address space more than at the start",
        "one sentence that speaks of memory; without the limit it goes on to the same weights",
        40,
        _starve,
        _prepare,
        (*MODULES, "tensorstore", "tensorboard", "torch.utils.tensorboard", "jsonargparse"),
    ),
    Attack(
        "earlier-worlds",
        "worlds that came with earlier commits of the repository are played",
        "they play, or one sentence says what to do",
        20,
        _open_earlier,
        modules=MODULES,
    ),
)
