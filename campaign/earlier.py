"""Makes a store, a run folder that was killed, and a replay, with any version of the program.

python campaign/earlier.py VIDEOS OUT, where another version of `genie` is on the path. Its modules
had other names, so each thing is looked for where it ever was.
"""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import threading
import time
from dataclasses import asdict, replace
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

STACK = {"layers": 1, "width": 16, "heads": 2, "window": 4}
WORLD = {
    "height": 32,
    "width": 32,
    "num_actions": 4,
    "tokenizer": {
        "patch": 8,
        "encoder": STACK,
        "decoder": STACK,
        "quantizer": {"codes": 16, "dim": 8},
    },
    "actions": {"patch": 8, "encoder": {**STACK, "window": 2}, "decoder": STACK},
    "dynamics": STACK,
    "sampling": {"steps": 2},
}
"""All of these keys were there from the first version on."""
ACTIONS = [0, 1, 2, 3, 3, 1]


def found(name: str, *modules: str) -> Any:
    """Returns something from the first module that has it; None when none does."""
    for module in modules:
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError):
            continue
    return None


def make_store(videos: Path, out: Path) -> Path:
    """Prepares videos, and keeps beside the store what this version reads of it."""
    from genie.data.prepare import prepare
    from genie.data.store import ClipStore

    prepare(videos, out / "store", height=32, width=32, workers=0, progress=False)
    store = ClipStore.open(out / "store")
    np.save(out / "windows.npy", store.windows(store.window_starts(8)[::10], 8))
    return out / "store"


def train(store: Path, out: Path) -> None:
    """Trains until there is a checkpoint of the dynamics, and ends the process there."""
    from genie.training.pipeline import train as trained

    stage_type, train_type = (
        found(name, "genie.schedule", "genie.presets.schedule")
        for name in ("StageConfig", "TrainConfig")
    )
    stage = stage_type(steps=20, batch_size=4, clip_frames=4, learning_rate=1e-3, warmup_steps=2)
    train = train_type(
        tokenizer=stage,
        actions=stage,
        dynamics=replace(stage, steps=60, optimizer="muon"),
        checkpoint_steps=2,
        log_every=50,
        accelerator="cpu",
    )
    key = "schedule" if "schedule" in signature(trained).parameters else "train"
    threading.Thread(target=_end_at, args=(out / "checkpoints",), daemon=True).start()
    trained(store, out, world=genie()(WORLD).config, **{key: train})


def genie() -> Any:
    """Returns the class of worlds."""
    return found("Genie", "genie.world.genie", "genie.world")


def _end_at(checkpoints: Path) -> None:
    while not any(path.suffix == ".ckpt" for path in checkpoints.glob("dynamics*")):
        time.sleep(0.001)
    os._exit(0)


def play(run: Path, prompt: np.ndarray) -> None:
    """Plays a game in the world of a run; writes its frames, and its replay where there are any."""
    world, frames = genie().from_pretrained(run, "cpu"), []
    state = world.start(prompt, 7)
    for action in ACTIONS:
        frame, state = world.step(state, action)
        frames.append(np.asarray(frame))
    np.save(run.parent / "frames.npy", np.stack(frames).reshape(len(ACTIONS), 32, 32, 3))
    modules = "genie.world.replay", "genie.replay"
    Replay, hashed = found("Replay", *modules), found("world_hash", *modules)
    if Replay is not None:
        buffer = io.BytesIO()
        Image.fromarray(prompt).save(buffer, "PNG")
        change = found("SamplingChange", *modules)(0, world.config.sampling)
        text = base64.b64encode(buffer.getvalue()).decode()
        game = Replay("run", hashed(world), 15.0, (text,), 7, (change,), tuple(ACTIONS))
        (run.parent / "game.json").write_text(json.dumps(asdict(game)))


def main(videos: Path, out: Path) -> None:
    """Makes everything; the training runs in a process that it ends."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        train(make_store(videos, out), out / "run")
        os._exit(3)  # it ended before there was a checkpoint
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise SystemExit(f"the training ended with {code}")
    play(out / "run", np.load(out / "windows.npy")[0, 0])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
