"""What the program saves, while the disk fails below it or the power is cut."""

from __future__ import annotations

import json
import random
import shutil
import signal
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from errno import EACCES, EIO, ENOSPC
from pathlib import Path

from campaign import faults, harness
from campaign.attacks import toys
from campaign.harness import Attack, Fell, Figures
from campaign.powercut import Disk


@dataclass(frozen=True)
class Target:
    """Something that is saved.

    Attributes:
        name: of it.
        save: writes version 1 or 2 of it into a folder, given what all trials share.
        read: returns what is there as text, equal for equal versions; raises when it is damaged.
    """

    name: str
    save: Callable[[Path, Path, int], object]
    read: Callable[[Path, Path], str]


def _save_checkpoint(shared: Path, folder: Path, version: int) -> None:
    import torch

    from genie.training.checkpointing import write_checkpoint

    weights = torch.arange(50_000.0) * version
    write_checkpoint(folder / "checkpoints" / "a.ckpt", {"step": version, "weights": weights})


def _read_checkpoint(shared: Path, folder: Path) -> str:
    import warnings

    from genie.training.checkpointing import read_checkpoint

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = read_checkpoint(folder / "checkpoints" / "a.ckpt")
    if state is None:
        return "nothing"
    if state["weights"].sum() != (state["weights"][1] * 50_000 * 49_999 / 2).to(state["weights"]):
        assert state["weights"][-1] == 49_999 * state["step"]
    return str(state["step"])


def _save_world(shared: Path, folder: Path, version: int) -> None:
    toys.save_world(folder, version, sampling={"steps": 1 + version}, fps=10.0 * version)


def _read_world(shared: Path, folder: Path) -> str:
    from genie.world.genie import Genie
    from genie.world.prompts import load_prompts
    from genie.world.replay import world_hash

    if not (folder / "config.json").exists() and not (folder / "prompts").exists():
        return "nothing"
    world = Genie.from_pretrained(folder, "cpu")
    if (folder / "prompts").exists():
        load_prompts(None, toys.SIDE, toys.SIDE, folder)
    return f"{world_hash(world)} {world.config.fps}"


def _save_store(shared: Path, folder: Path, version: int) -> None:
    from genie.data.prepare import prepare

    prepare(shared / f"videos-{version}", folder / f"store-{version}", **toys.HERE)


def _read_store(shared: Path, folder: Path) -> str:
    from genie.core.config import UserError
    from genie.data.store import ClipStore

    for version in (2, 1):
        try:
            store = ClipStore.open(folder / f"store-{version}")
        except UserError:
            continue
        frames = store.read(0, len(store))
        return f"{version} {zlib.crc32(frames.tobytes())} {len(store.source_frames)}"
    return "nothing"


def _save_tokens(shared: Path, folder: Path, version: int) -> None:
    import numpy as np

    from genie.data.cache import ArrayCache

    cache = ArrayCache(folder, 3000)
    rows = np.arange(3000 * 16).reshape(3000, 16) * version
    cache.write(f"whole-{version}", rows)
    for first in (0, 1000, 2000):
        cache.write_piece(f"pieces-{version}", first, rows[first : first + 1000])
    cache.finish(f"pieces-{version}", [(0, 1000), (1000, 2000), (2000, 3000)])


def _read_tokens(shared: Path, folder: Path) -> str:
    import numpy as np

    from genie.data.cache import ArrayCache

    cache, latest = ArrayCache(folder, 3000), "nothing"
    for version in (1, 2):
        rows = np.arange(3000 * 16).reshape(3000, 16) * version
        for kind in ("whole", "pieces"):
            if cache.has(f"{kind}-{version}"):
                assert np.array_equal(np.asarray(cache.read(f"{kind}-{version}")), rows)
        if cache.has(f"pieces-{version}"):
            latest = str(version)
    return latest


def _save_report(shared: Path, folder: Path, version: int) -> None:
    from genie.evaluation.evaluate import _write
    from genie.evaluation.figures import Figure

    report = json.loads((shared / "report.json").read_text("utf-8"))
    report["world"]["name"] = f"world {version}"
    _write(report, [Figure("curve", "a curve", b"png" * 999 * version, "headlines")], folder)


def _read_report(shared: Path, folder: Path) -> str:
    if not (folder / "report.json").exists():
        return "nothing"
    report = json.loads((folder / "report.json").read_text("utf-8"))
    for name in ("report.md", "report.html", "pictures/curve.png"):
        assert (folder / name).stat().st_size > 1000, f"{name} is cut short"
    return report["world"]["name"]


def _save_clip(shared: Path, folder: Path, version: int) -> None:
    from genie.world.generate import replay

    for ending in ("mp4", "gif"):
        out, file = folder / f"clip.{ending}", shared / f"game-{version}.json"
        replay(file, world=shared / "world", out=out, device="cpu", progress=False)


def _read_clip(shared: Path, folder: Path) -> str:
    from genie.data.video import read_video

    if not (folder / "clip.mp4").exists():
        return "nothing"
    found = [len(list(read_video(p))) for p in sorted(folder.glob("clip.*"))]
    return f"{found[-1]} frames"


def _save_record(shared: Path, folder: Path, version: int) -> None:
    from genie.world.action_names import write_names

    write_names(folder, [f"action {version} {i}" for i in range(4)])


def _read_record(shared: Path, folder: Path) -> str:
    from genie.world.action_names import parse_names

    path = folder / "names.json"
    return str(parse_names(path.read_bytes(), 4)) if path.exists() else "nothing"


TARGETS = (
    Target("checkpoint", _save_checkpoint, _read_checkpoint),
    Target("world", _save_world, _read_world),
    Target("store", _save_store, _read_store),
    Target("tokens", _save_tokens, _read_tokens),
    Target("report", _save_report, _read_report),
    Target("replay", _save_clip, _read_clip),
    Target("names", _save_record, _read_record),
)


def _prepare(shared: Path) -> None:
    from genie.world import bundled
    from genie.world.genie import Genie
    from genie.world.replay import Replay

    for version in (1, 2):
        toys.make_videos(shared / f"videos-{version}", 2 + version)
    folder = bundled.folder_of("coinrun-tiny")
    assert folder is not None
    shutil.copy(folder / "report.json", shared)
    toys.save_world(shared / "world", 0)
    world = Genie.from_pretrained(shared / "world", "cpu")
    for version in (1, 2):
        prompt = toys.moving_square(1, 0, toys.SIDE)[0]
        game = Replay.of_game(world, "world", prompt, 1, [0, 1, 2, 3] * 5 * version)
        path = shared / f"game-{version}.json"
        from dataclasses import asdict

        path.write_text(json.dumps(asdict(game)))


def _begin(shared: Path, own: Path, target: Target) -> tuple[str, str, int]:
    """Saves version 1; returns it, version 2, and how many operations it takes to save that."""
    target.save(shared, own / "disk", 1)
    old = target.read(shared, own / "disk")
    shutil.copytree(own / "disk", own / "probe")
    faults.arm(path=own / "probe", ops=faults.EVERYTHING, nth=0)
    target.save(shared, own / "probe", 2)
    count = faults.counted()
    new = target.read(shared, own / "probe")
    faults.arm()
    assert old != new
    return old, new, count


KINDS = {
    "full disk": {"errno": ENOSPC, "ops": "owm", "sticky": 1},
    "no permission": {"errno": EACCES, "ops": "oumr", "sticky": 1},
    "read-only from now on": {"errno": EACCES, "ops": faults.EVERYTHING, "sticky": 1},
    "I/O error": {"errno": EIO, "ops": "owsdr"},
    "I/O errors from now on": {"errno": EIO, "ops": "owsdrt", "sticky": 1},
    "short write": {"short": 1, "ops": "w"},
    "short writes": {"short": 1, "ops": "w", "sticky": 1},
    "clock set back": {"clock": -400 * 86400, "ops": "w", "nth": 0},
}


def _fail(
    shared: Path, own: Path, dice: random.Random, targets: Sequence[Target] = TARGETS
) -> tuple[str, Figures]:
    from genie.cli.main import explain

    target = dice.choice(targets)
    name, kind = dice.choice(list(KINDS.items()))
    old, new, count = _begin(shared, own, target)
    matching = _count_of(shared, own, target, str(kind["ops"])) if "nth" not in kind else 0
    number = dice.randint(1, max(1, matching))
    faults.arm(**{"path": own / "disk", "nth": number, **kind})
    said = None
    try:
        target.save(shared, own / "disk", 2)
    except BaseException as error:
        said = explain(error)
    finally:
        faults.arm()
    where = f"{target.name}, {name} at operation {number} of {max(matching, 1)}"
    found = _looked(target, shared, own / "disk", where)
    if said is None and found != new:
        raise Fell(f"{where}: no error, and the new one is not there")
    if said is not None:
        _check_words(said, where)
        if found not in (old, new):
            raise Fell(f"{where}: neither the old nor the new one is there ({found})")
    left = [p.name for p in (own / "disk").rglob("*") if p.is_file() and _is_leftover(p)]
    if left and "u" not in str(kind["ops"]) and target.name != "store":
        raise Fell(f"{where}: {left[0]} was left behind")
    del count
    target.save(shared, own / "disk", 2)
    if _looked(target, shared, own / "disk", where) != new:
        raise Fell(f"{where}: saving it again later did not give the new one")
    return f"{target.name}: {'nothing went wrong' if said is None else 'said and kept'}", {}


def _count_of(shared: Path, own: Path, target: Target, ops: str) -> int:
    shutil.rmtree(own / "probe")
    shutil.copytree(own / "disk", own / "probe")
    faults.arm(path=own / "probe", ops=ops, nth=0)
    target.save(shared, own / "probe", 2)
    count = faults.counted()
    faults.arm()
    return count


def _looked(target: Target, shared: Path, folder: Path, where: str) -> str:
    try:
        return target.read(shared, folder)
    except Exception as error:
        raise Fell(f"{where}: what is there cannot be read, {error}") from error


def _check_words(said: tuple[int, str], where: str) -> None:
    code, sentence = said
    if code != 2:
        raise Fell(f"{where}: not an error that a user can put right: {sentence}")
    reasons = ("disk is full", "no space", "permission", "denied", "input/output", "be written")
    if not any(reason in sentence.lower() for reason in reasons):
        raise Fell(f"{where}: the message does not say what is wrong: {sentence}")


def _is_leftover(path: Path) -> bool:
    return path.name.startswith(".") or path.name.endswith((".__lock", ".part"))


def _cut_power(
    shared: Path, own: Path, dice: random.Random, targets: Sequence[Target] = TARGETS
) -> tuple[str, Figures]:
    target = dice.choice(targets)
    old, new, count = harness.called(_begin, shared, own, target, output=own / "begin")
    before, log = Disk.of(own / "disk"), own / "log"
    log.mkdir()
    number = dice.randint(1, count + 1)  # or after it has said that it is done
    plan = {"path": own / "disk", "ops": faults.EVERYTHING, "nth": number, "kill": 2, "log": log}
    child = harness.fork(
        lambda: (faults.arm(**plan), target.save(shared, own / "disk", 2)), own / "victim"
    )
    code, _ = harness.ended(child, 60)
    before.after(log, dice).write(own / "disk")
    where = f"{target.name}, cut after operation {number} of {count}"
    found = _looked(target, shared, own / "disk", where)
    if found not in (old, new):
        raise Fell(f"{where}: neither the old nor the new one is there ({found})")
    if code not in (0, -signal.SIGKILL):
        raise Fell(f"{where}: ended with {code}")
    if code == 0 and found != new:
        raise Fell(f"{where}: it was said to be saved, and is not there")
    target.save(shared, own / "disk", 2)
    if _looked(target, shared, own / "disk", where) != new:
        raise Fell(f"{where}: saving it again later did not give the new one")
    return target.name, {}


def _harm_small_files(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    attack = dice.choice((_fail, _cut_power))
    return attack(shared, own, dice, [t for t in TARGETS if t.name in ("tokens", "names")])


MODULES = ("genie.training.checkpointing", "genie.evaluation.evaluate", "genie.world.generate")
ATTACKS = (
    Attack(
        "faults",
        "ENOSPC, EACCES, EIO or short writes at a random file operation, or the clock set back, "
        "while something is saved (checkpoint, world, store, tokens, report, video, names)",
        "one sentence that says what is wrong; the old file or the new one is whole; it can be "
        "saved later",
        300,
        _fail,
        _prepare,
        (*MODULES, "tensorstore", "genie.data.prepare"),
    ),
    Attack(
        "power-saves",
        "power cut at a random file operation while the same are saved",
        "the old or the new one is whole; what was said to be saved is there",
        150,
        _cut_power,
        _prepare,
        (*MODULES, "tensorstore", "genie.data.prepare"),
    ),
    Attack(
        "files",
        "the two above on tokens and names alone; a few of them are in the tests",
        "as above",
        100,
        _harm_small_files,
    ),
)
