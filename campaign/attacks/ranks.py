"""Trainings of two processes of which one is killed, slow or out of space; killed workers."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import socket
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from campaign import faults, harness
from campaign.attacks import toys
from campaign.attacks.kill import RESULT, TRAINING
from campaign.harness import Attack, Fell, Figures

RANKS = 2
PIECES = {"SHORTEST_CHUNK": 7, "FRAMES_AT_ONCE": 20, "PIECE_FRAMES": 14}
"""Small ones, so that the toy store has several for each process."""
VICTIM_SECONDS, SURVIVOR_SECONDS, RESUMED_SECONDS, TRIAL_SECONDS = 240.0, 30.0, 600.0, 900.0
"""Limits; two processes that wait for each other are slow on a busy machine."""
NEED_SPACE = "owmst"
"""Operations that fail on a full disk."""


def _train(data: Path, out: Path, rank: int, port: int, strategy: str) -> None:
    from genie.training import token_cache

    names = {"LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": RANKS, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()}
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    for name, value in PIECES.items():
        setattr(token_cache, name, value)
    toys.train_toy(data, out, devices=RANKS, strategy=strategy)


def _group(
    data: Path,
    out: Path,
    own: Path,
    strategy: str,
    plan: dict[str, object] | None = None,
    victim: int = RANKS - 1,
) -> list[int]:
    """Starts two processes; faults of the plan happen in one of them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def go(rank: int) -> None:
        if plan is not None and rank == victim:
            faults.arm(**plan)  # type: ignore[arg-type]
        _train(data, out, rank, port, strategy)

    return [harness.fork(lambda rank=rank: go(rank), own / f"rank-{rank}") for rank in range(RANKS)]


def _whole(shared: Path, strategy: str, counted: str = "whole/checkpoints") -> None:
    """Makes a store and an undisturbed run, and counts what each process does in a folder."""
    harness.called(lambda: str(toys.make_store(shared / "data")), output=shared / "store")
    shutil.copytree(shared / "data", shared / "fresh")
    began = time.monotonic()
    nothing = {"path": shared / counted, "ops": faults.EVERYTHING, "nth": 0}
    if counted == ".":
        nothing |= {"path": shared, "ops": NEED_SPACE}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def count(rank: int) -> None:
        faults.arm(**nothing)  # type: ignore[arg-type]
        _train(shared / "data", shared / "whole", rank, port, strategy)
        (shared / f"operations-{rank}").write_text(str(faults.counted()))

    children = [
        harness.fork(lambda rank=rank: count(rank), shared / f"rank-{rank}")
        for rank in range(RANKS)
    ]
    codes = [harness.ended(child, VICTIM_SECONDS)[0] for child in children]
    if codes != [0] * RANKS:
        raise RuntimeError(f"the undisturbed run ended with {codes}")
    (shared / "seconds").write_text(str(time.monotonic() - began))


def _kill_rank(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    data, out = shutil.copytree(shared / "fresh", own / "data"), own / "run"
    children = _group(data, out, own, "ddp")
    victim = dice.randrange(RANKS)
    time.sleep(dice.uniform(0.0, float((shared / "seconds").read_text())))
    with suppress(ProcessLookupError):
        os.kill(children[victim], signal.SIGKILL)
    return _go_on(shared, data, out, own, "ddp", children, victim)


def _kill_saving(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    data, out = shutil.copytree(shared / "fresh", own / "data"), own / "run"
    number = dice.randint(1, int((shared / f"operations-{RANKS - 1}").read_text()))
    plan = {"path": out / "checkpoints", "ops": faults.EVERYTHING, "nth": number}
    children = _group(data, out, own, "fsdp", plan | {"kill": dice.choice((1, 2))})
    return _go_on(shared, data, out, own, "fsdp", children, RANKS - 1)


def _go_on(
    shared: Path,
    data: Path,
    out: Path,
    own: Path,
    strategy: str,
    children: list[int],
    victim: int,
) -> tuple[str, Figures]:
    """Waits for what is left of a group, starts it again and compares."""
    code, _ = harness.ended(children[victim], VICTIM_SECONDS)
    began = time.monotonic()
    others = [child for rank, child in enumerate(children) if rank != victim]
    left = [harness.ended(child, SURVIVOR_SECONDS)[0] for child in others]
    waited = time.monotonic() - began
    _ends_well(shared, out, _group(data, out, own, strategy))
    killed = {-signal.SIGKILL: "killed", None: "it was too slow to be killed"}.get(
        code, "the run had ended before"
    )
    how = "the other one waited on" if None in left else "the other one ended"
    return f"{killed}, {how}", {"seconds until the other one ended": round(waited, 1)}


def _ends_well(shared: Path, out: Path, children: list[int]) -> None:
    """Waits for a group, and compares its world with that of the undisturbed run."""
    codes = [harness.ended(child, RESUMED_SECONDS)[0] for child in children]
    if codes != [0] * RANKS:
        raise Fell(f"it did not go on: {codes}")
    different = [
        name for name in RESULT if toys.digest(shared / "whole", name) != toys.digest(out, name)
    ]
    if different:
        raise Fell(f"the end differs from that of the undisturbed run: {', '.join(different)}")


def _stop_rank(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    data, out = shutil.copytree(shared / "fresh", own / "data"), own / "run"
    children = _group(data, out, own, "ddp")
    time.sleep(dice.uniform(0.0, float((shared / "seconds").read_text())))
    victim, seconds = children[dice.randrange(RANKS)], dice.uniform(1, 5)
    with suppress(ProcessLookupError):
        os.kill(victim, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(victim, signal.SIGCONT)
    _ends_well(shared, out, children)
    return "stopped for a while", {"seconds that a process stood still": round(seconds, 1)}


def _fill_disk(shared: Path, own: Path, dice: random.Random, strategy: str) -> tuple[str, Figures]:
    disk = own / "disk"
    data, out = shutil.copytree(shared / "fresh", disk / "data"), disk / "run"
    victim = dice.randrange(RANKS)
    number = dice.randint(1, int((shared / f"operations-{victim}").read_text()))
    plan = {"path": disk, "ops": NEED_SPACE, "nth": number, "errno": errno.ENOSPC, "sticky": 1}
    children, began = _group(data, out, own, strategy, plan, victim), time.monotonic()
    codes = [harness.ended(child, VICTIM_SECONDS)[0] for child in children]
    took, said = time.monotonic() - began, [_last_line(own / f"rank-{r}") for r in range(RANKS)]
    what = "both said it"
    if codes == [0] * RANKS:
        what = "nothing was missed"
    elif None in codes:
        raise Fell(f"process {codes.index(None)} waited on: {said}")
    elif not all("UserError" in words or "No space left" in words for words in said):
        raise Fell(f"{codes}: {said}")
    _ends_well(shared, out, _group(data, out, own, strategy))
    who = f"the {('first', 'second')[victim]} process"
    return f"{strategy}, {who}: {what}", {"seconds until both ended": round(took, 1)}


def _last_line(output: Path) -> str:
    lines = output.read_text().strip().splitlines()
    return lines[-1][:300] if lines else ""


def _prepare_encoding(shared: Path) -> None:
    toys.make_store(shared / "data", (120, 90, 60, 40))
    toys.save_world(shared / "world", 1)
    began = time.monotonic()
    _encode(shared, shutil.copytree(shared / "data", shared / "whole"))
    (shared / "seconds").write_text(str(time.monotonic() - began))


def _encode(shared: Path, data: Path, rank: int = 0, size: int = 1) -> None:
    import torch

    from genie.data.store import ClipStore
    from genie.training import token_cache
    from genie.world.genie import Genie

    torch.set_num_threads(1)
    for name, value in PIECES.items():
        setattr(token_cache, name, value)
    token_cache.rank_and_size = lambda: (rank, size)
    world, store = Genie.from_pretrained(shared / "world", device="cpu"), ClipStore.open(data)
    token_cache.precompute_tokens(store, world.tokenizer, 4, lambda share: time.sleep(0.01))
    token_cache.precompute_actions(store, world.actions, lambda share: time.sleep(0.01))


def _kill_encoding(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    data = shutil.copytree(shared / "data", own / "data")
    children = [
        harness.fork(lambda rank=rank: _encode(shared, data, rank, RANKS), own / f"rank-{rank}")
        for rank in range(RANKS)
    ]
    time.sleep(dice.uniform(0.0, float((shared / "seconds").read_text())))
    victim = dice.randrange(RANKS)
    with suppress(ProcessLookupError):
        os.kill(children[victim], signal.SIGKILL)
    codes = [harness.ended(child, 60)[0] for child in children]
    if codes[1 - victim] != 0:
        raise Fell(f"the other one ended with {codes[1 - victim]}")
    if _derived(data) != _derived(shared / "whole"):
        raise Fell("tokens or actions differ from those of one process")
    return ("killed" if codes[victim] else "it had ended before"), {}


def _derived(data: Path) -> dict[str, bytes]:
    """What was computed; files of a killed process have hidden names."""
    files = [path for path in (data / "derived").rglob("*") if path.is_file()]
    return {
        str(path.relative_to(data)): path.read_bytes()
        for path in files
        if not path.name.startswith(".")
    }


def _prepare_videos(shared: Path) -> None:
    from genie.data.prepare import prepare

    began = time.monotonic()
    prepare(toys.make_videos(shared / "videos", 12), shared / "whole", **toys.HERE | {"workers": 2})
    (shared / "seconds").write_text(str(time.monotonic() - began))


def _kill_worker(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    from genie.data.prepare import prepare

    options, out = toys.HERE | {"workers": 2}, own / "store"
    child = harness.fork(lambda: prepare(shared / "videos", out, **options), own / "victim")
    killed, deadline = (
        0,
        time.monotonic() + dice.uniform(0.0, 0.8) * float((shared / "seconds").read_text()),
    )
    while not killed and time.monotonic() < deadline + 10:
        workers = _children(child)
        if workers and time.monotonic() > deadline:
            with suppress(ProcessLookupError):
                os.kill(dice.choice(workers), signal.SIGKILL)
                killed += 1
        if not Path(f"/proc/{child}/task").exists():
            break
        time.sleep(0.01)
    code, _ = harness.ended(child, 60)
    what = "it went on by itself" if code == 0 else "it ended with an error"
    again, _ = harness.ended(
        harness.fork(lambda: prepare(shared / "videos", out, **options), own / "again"), 60
    )
    if again != 0:
        raise Fell(f"it did not go on: {(own / 'again').read_text().strip().splitlines()[-1]}")
    if toys.digest(out) != toys.digest(shared / "whole"):
        raise Fell("the store differs from that of the undisturbed run")
    return (what if killed else "no worker was there"), {}


def _children(parent: int) -> list[int]:
    with suppress(OSError):
        text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
        return [int(number) for number in text.split()]
    return []


GOES_ON = "goes on; final weights, configuration and prompts equal to the undisturbed run"
ATTACKS = (
    Attack(
        "kill-rank",
        "SIGKILL of one of two processes of a training (DDP) at a random time",
        GOES_ON,
        20,
        _kill_rank,
        lambda shared: _whole(shared, "ddp"),
        TRAINING,
        TRIAL_SECONDS,
    ),
    Attack(
        "kill-rank-saving",
        "SIGKILL of one of two processes with sharded weights (FSDP) at a random file operation of "
        "its checkpoints",
        GOES_ON,
        20,
        _kill_saving,
        lambda shared: _whole(shared, "fsdp"),
        TRAINING,
        TRIAL_SECONDS,
    ),
    Attack(
        "stop-rank",
        "SIGSTOP of one of two processes of a training (DDP) at a random time, SIGCONT one to "
        "five seconds later",
        "both end well; final weights, configuration and prompts equal to the undisturbed run",
        20,
        _stop_rank,
        lambda shared: _whole(shared, "ddp"),
        TRAINING,
        TRIAL_SECONDS,
    ),
    *(
        Attack(
            f"full-disk-rank-{strategy}",
            f"the disk of one of two processes of a training ({name}) is full from a random file "
            "operation on",
            f"both end and say so; with space it {GOES_ON}",
            20,
            partial(_fill_disk, strategy=strategy),
            partial(_whole, strategy=strategy, counted="."),
            TRAINING,
            TRIAL_SECONDS,
        )
        for strategy, name in (("ddp", "DDP"), ("fsdp", "FSDP"))
    ),
    Attack(
        "kill-encoding",
        "SIGKILL of one of two processes that compute tokens and latent actions",
        "the other one ends; arrays equal to those of one process",
        20,
        _kill_encoding,
        _prepare_encoding,
        TRAINING,
    ),
    Attack(
        "kill-worker",
        "SIGKILL of one of two decoding workers of `genie prepare`",
        "identical store, at once or by the same command",
        20,
        _kill_worker,
        _prepare_videos,
        ("genie.data.prepare", "tensorstore", "av"),
    ),
)
