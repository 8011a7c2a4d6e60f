"""Training and preparing, killed at any moment: what comes out is what comes out undisturbed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

from campaign import faults, harness
from campaign.attacks import toys
from campaign.harness import Attack, Fell, Figures
from campaign.powercut import Disk

RESULT = ("model.safetensors", "config.json", "prompts/*")
"""Of a run, what must be equal bit by bit."""


def _prepare_training(shared: Path) -> None:
    toys.make_store(shared / "data")
    shutil.copytree(shared / "data", shared / "fresh")
    began = time.monotonic()
    faults.arm(path=shared / "whole", ops=faults.EVERYTHING, nth=0)
    toys.train_toy(shared / "data", shared / "whole")
    (shared / "operations").write_text(str(faults.counted()))
    (shared / "seconds").write_text(str(time.monotonic() - began))


def _kill_training(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    data, out = shutil.copytree(shared / "fresh", own / "data"), own / "run"
    if dice.random() < 0.5:
        how = "at a random time"
        child = harness.fork(lambda: toys.train_toy(data, out), own / "victim")
        time.sleep(dice.uniform(0.0, float((shared / "seconds").read_text())))
        os.kill(child, signal.SIGKILL)
    else:
        number = dice.randint(1, int((shared / "operations").read_text()))
        how = "at a file operation"
        plan = {"path": out, "ops": faults.EVERYTHING, "nth": number, "kill": dice.choice((1, 2))}
        child = harness.fork(
            lambda: (faults.arm(**plan), toys.train_toy(data, out)), own / "victim"
        )
    code, _ = harness.ended(child, 60)
    if code != -signal.SIGKILL:
        how += ", after its end" if code == 0 else f", and it ended with {code}"
    _finish(data, out, own)
    _compare(shared / "whole", out)
    return how, {}


def _cut_power_of_training(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    data, out, log = shutil.copytree(shared / "fresh", own / "data"), own / "run", own / "log"
    out.mkdir()
    log.mkdir()
    before = Disk.of(out)
    number = dice.randint(1, int((shared / "operations").read_text()))
    plan = {"path": out, "ops": faults.EVERYTHING, "nth": number, "kill": 2, "log": log}
    child = harness.fork(lambda: (faults.arm(**plan), toys.train_toy(data, out)), own / "victim")
    harness.ended(child, 60)
    before.after(log, dice).write(out)
    _finish(data, out, own)
    _compare(shared / "whole", out)
    return "the run went on", {}


def _finish(data: Path, out: Path, own: Path) -> None:
    code, _ = harness.ended(harness.fork(lambda: toys.train_toy(data, out), own / "resumed"), 60)
    if code != 0:
        words = (own / "resumed").read_text().strip().splitlines()
        raise Fell(f"it did not go on: {words[-1] if words else code}")


def _compare(whole: Path, out: Path) -> None:
    different = [name for name in RESULT if toys.digest(whole, name) != toys.digest(out, name)]
    if different:
        raise Fell(f"the end differs from that of the undisturbed run: {', '.join(different)}")


def _prepare_videos(shared: Path) -> None:
    from genie.data.prepare import prepare

    source = toys.make_videos(shared / "videos", 12)
    (source / "broken.mp4").write_text("not a video")
    _small_shards()
    faults.arm(path=shared / "whole", ops=faults.EVERYTHING, nth=0)
    prepare(source, shared / "whole", **toys.HERE)
    (shared / "operations").write_text(str(faults.counted()))


def _small_shards() -> None:
    from genie.data import store

    store.SHARD_FRAMES = 64


def _kill_prepare(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    return _end_prepare(shared, own, dice, power_cut=False)


def _cut_power_of_prepare(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    return _end_prepare(shared, own, dice, power_cut=True)


def _end_prepare(
    shared: Path, own: Path, dice: random.Random, power_cut: bool
) -> tuple[str, Figures]:
    from genie.data.prepare import prepare

    _small_shards()
    out, log, count = own / "store", own / "log", 0
    out.mkdir()
    log.mkdir()

    def go() -> None:
        prepare(shared / "videos", out, **toys.HERE)

    for _ in range(dice.randint(1, 3)):  # killed again while it goes on
        before = Disk.of(out)
        number = dice.randint(1, int((shared / "operations").read_text()))
        plan = {"path": out, "ops": faults.EVERYTHING, "nth": number, "kill": dice.choice((1, 2))}
        if power_cut:
            shutil.rmtree(log)
            log.mkdir()
            plan["log"] = log
        child = harness.fork(lambda plan=plan: (faults.arm(**plan), go()), own / "victim")
        code, _ = harness.ended(child, 60)
        count += code == -signal.SIGKILL
        if power_cut:
            before.after(log, dice).write(out)
    code, _ = harness.ended(harness.fork(go, own / "resumed"), 60)
    if code != 0:
        raise Fell(f"it did not go on: {(own / 'resumed').read_text().strip().splitlines()[-1]}")
    if toys.digest(out) != toys.digest(shared / "whole"):
        raise Fell("the store differs from that of the undisturbed run")
    return f"killed {count} times", {}


TRAINING = ("genie.training.pipeline", "tensorstore", "tensorboard", "torch.utils.tensorboard")
ATTACKS = (
    Attack(
        "kill-training",
        "SIGKILL during a training of three stages; half of them at a random time, half before or "
        "after a random file operation",
        "goes on; final weights, configuration and prompts equal to the undisturbed run",
        200,
        _kill_training,
        _prepare_training,
        TRAINING,
    ),
    Attack(
        "power-training",
        "power cut during the same training: only what was synced survives",
        "goes on; final files equal to the undisturbed run",
        50,
        _cut_power_of_training,
        _prepare_training,
        TRAINING,
    ),
    Attack(
        "kill-prepare",
        "`genie prepare` killed up to three times at file operations",
        "identical store",
        50,
        _kill_prepare,
        _prepare_videos,
        ("genie.data.prepare", "tensorstore", "av"),
    ),
    Attack(
        "power-prepare",
        "power cut during `genie prepare`, up to three times",
        "identical store",
        50,
        _cut_power_of_prepare,
        _prepare_videos,
        ("genie.data.prepare", "tensorstore", "av"),
    ),
)
