"""Too little memory for a world that is trained, evaluated, generated or played."""

from __future__ import annotations

import random
import resource
import shutil
import signal
import threading
import time
from pathlib import Path

from campaign import harness
from campaign.attacks import toys
from campaign.attacks.hostile import _virtual
from campaign.attacks.server import healthy
from campaign.harness import Attack, Fell, Figures

WEIGHTS = "model.safetensors"
SMALL = (
    "clips", "seeds", "long_clips", "action_prompts", "supervised_clips", "closed_loop_games",
    "closed_loop_steps", "action_selection_games",
)  # fmt: skip
"""Numbers of an evaluation that are 2 here."""


def _prepare(shared: Path) -> None:
    harness.called(lambda: toys.make_store(shared / "data").name, output=shared / "store")
    wide = {"layers": 2, "width": 1024, "heads": 8, "window": 4}
    toys.save_world(shared / "world", 0, tokenizer={**toys.WORLD["tokenizer"], "encoder": wide})
    shutil.copytree(shared / "data", shared / "fresh")


def _commands(shared: Path, own: Path) -> dict[str, list[str]]:
    """What is done with little memory, by the command that does it."""
    data = shutil.copytree(shared / "fresh", own / "data")
    world, store = str(shared / "world"), str(data)
    two = [text for name in SMALL for text in (f"--{name}", "2")]
    numbers = ("steps=2", "batch_size=4", "clip_frames=4")
    sizes = [f"--train.tokenizer.{number}" for number in numbers]
    return {
        "train": ["train", "--data", store, "--out", f"{own}/run", "--from", world, "--stages",
                  "[tokenizer]", "--keep_actions", "false", "--device", "cpu", *sizes],
        "evaluate": ["evaluate", world, "--data", store, "--out", f"{own}/report", "--quick",
                     "--horizon", "4", "--long_horizon", "8", "--action_steps", "4",
                     "--inverse_dynamics_steps", "4", *two],
        "generate": ["generate", world, "--frames", "2", "--out", f"{own}/clip.gif"],
        "play": ["play", world, "--port", "8765"],
    }  # fmt: skip


def _starve(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    """Does something with a limit of memory, and again without."""
    commands = _commands(shared, own)
    name = dice.choice(list(commands))
    megabytes = dice.randrange(*(150, 700) if name == "train" else (60, 120))
    what = f"{name} with {megabytes} MB"

    def go(limit: bool) -> tuple[int, str]:
        from campaign.attacks.hostile import _done

        if name == "play":
            threading.Thread(target=_interrupt, daemon=True).start()
        if limit:
            resource.setrlimit(resource.RLIMIT_AS, (_virtual() + megabytes * 2**20, -1))
        return _done(commands[name])

    try:
        code, said = harness.called(go, True, output=own / "starved", limit=200)
    except Fell as error:
        raise Fell(f"{what}: the process ended, {error}") from None
    if code not in (0, 2) or (code == 2 and "out of memory: " not in said):
        raise Fell(f"{what}: {said.strip()[-300:]}")
    if name == "evaluate":  # takes minutes where there is enough
        return f"{name}: {'said' if code else 'enough memory'}", {}
    again, said = harness.called(go, False, output=own / "again", limit=200)
    if again != 0:
        raise Fell(f"{what}: then without a limit: {said.strip()[-300:]}")
    return f"{name}: {'said' if code else 'enough memory'}", {}


def _interrupt() -> None:
    """Ends the server once it is ready."""
    while not healthy(8765):
        time.sleep(0.1)
    signal.raise_signal(signal.SIGTERM)


MODULES = (
    "genie.training.pipeline", "genie.world.generate", "genie.cli.commands.generate",
    "genie.data.prepare", "genie.evaluation.evaluate", "genie.serving.server", "tensorstore",
    "av", "tensorboard", "torch.utils.tensorboard", "jsonargparse", "genie.cli.parser",
    "uvicorn.protocols.http.h11_impl",
)  # fmt: skip
ATTACKS = (
    Attack(
        "memory",
        "a world whose weights take 100 MB is trained, evaluated, generated or played with 60 to "
        "700 MB of address space more than at the start",
        "one sentence that says what to lower; without the limit it goes on and ends well",
        24,
        _starve,
        _prepare,
        MODULES,
        500,
    ),
)
