"""Little memory."""

from __future__ import annotations

import random
import resource
import shutil
from pathlib import Path

from campaign import harness
from campaign.attacks import toys
from campaign.attacks.hostile import _done, _virtual
from campaign.harness import Attack, Fell, Figures

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
)
