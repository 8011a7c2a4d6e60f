"""Runs the trials of attacks, each in a process of its own, and keeps a line for each.

A trial is given by its attack, its number and the seed, so it can be run again by itself. What was
run is not run again: a campaign that was stopped goes on with the trials that are missing.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

RESULTS = "results.jsonl"
Figures = dict[str, float]
"""What a trial measured, by name; the largest of all trials is reported."""


class Fell(Exception):
    """The attack succeeded: something was lost, got in or was not said."""


@dataclass(frozen=True)
class Attack:
    """A way to harm the program.

    Attributes:
        name: for `--only`.
        about: what is done, for the page.
        bar: what must hold in each trial, for the page.
        trials: of a whole campaign.
        trial: does it once: gets the folder that all trials share, a folder of its own and dice.
            Returns a word for what was done, and figures; raises when the attack succeeded.
        prepare: fills the folder that all trials share.
        modules: imported once, before trials are forked.
        limit: seconds that a trial may take.
    """

    name: str
    about: str
    bar: str
    trials: int
    trial: Callable[[Path, Path, random.Random], tuple[str, Figures]]
    prepare: Callable[[Path], object] = lambda folder: None
    modules: tuple[str, ...] = ()
    limit: float = 120.0


@dataclass
class Campaign:
    """The trials that were run.

    Args:
        folder: where results and leftovers of trials lie.
        seed: of all dice.
    """

    folder: Path
    seed: int
    lines: dict[tuple[str, int, int], dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reads what earlier runs wrote; a trial that was run twice counts as it ended last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / RESULTS
        for text in path.read_text().splitlines() if path.exists() else ():
            try:
                line = json.loads(text)
            except ValueError:  # the campaign was killed while it wrote
                continue
            self.lines[line["attack"], line["trial"], line["seed"]] = line

    def run(self, attack: Attack, trials: int, again: bool = False) -> Iterator[dict[str, Any]]:
        """Runs the trials of an attack that are missing, and yields a line for each.

        Args:
            attack: is done.
            trials: how many there are to be.
            again: run those that fell again.
        """
        missing = [n for n in range(trials) if self._is_missing(attack, n, again)]
        if not missing:
            return
        for module in attack.modules:
            import_module(module)
        shared = self._shared(attack)
        for number in missing:
            line = self._trial(attack, number, shared)
            with (self.folder / RESULTS).open("a") as file:
                file.write(json.dumps(line) + "\n")
            self.lines[attack.name, number, self.seed] = line
            yield line

    def of(self, attack: Attack) -> list[dict[str, Any]]:
        """Returns the lines of an attack."""
        return [
            line
            for (name, _, seed), line in sorted(self.lines.items())
            if name == attack.name and seed == self.seed
        ]

    def _is_missing(self, attack: Attack, number: int, again: bool) -> bool:
        line = self.lines.get((attack.name, number, self.seed))
        return line is None or (again and not line["held"])

    def _shared(self, attack: Attack) -> Path:
        shared = self.folder / "shared" / attack.name
        if not (shared / "made").exists():
            shutil.rmtree(shared, ignore_errors=True)
            shared.mkdir(parents=True)
            result = in_a_child(lambda: (str(attack.prepare(shared)), {}), shared, 600)
            if not result["held"]:
                raise RuntimeError(f"{attack.name} could not be prepared: {result['what']}")
            (shared / "made").touch()
        return shared

    def _trial(self, attack: Attack, number: int, shared: Path) -> dict[str, Any]:
        own = self.folder / "trials" / f"{attack.name}-{number}"
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir(parents=True)
        dice = random.Random(f"{self.seed} {attack.name} {number}")
        result = in_a_child(lambda: attack.trial(shared, own, dice), own, attack.limit)
        if result["held"]:
            shutil.rmtree(own, ignore_errors=True)
        return {"attack": attack.name, "trial": number, "seed": self.seed, **result}


def in_a_child(
    work: Callable[[], tuple[str, Figures]], folder: Path, limit: float
) -> dict[str, Any]:
    """Does something in a forked process; what it prints goes to `output` in the folder."""
    began = time.monotonic()
    result = folder / "result.json"
    child = fork(lambda: _report(work, result), folder / "output")
    code, memory = ended(child, limit)
    seconds = time.monotonic() - began
    if not result.exists():
        how = "took too long" if code is None else f"its process ended with {code}"
        return {"held": False, "what": how, "figures": {}, "seconds": round(seconds, 2)}
    found = json.loads(result.read_text())
    result.unlink()
    return {**found, "seconds": round(seconds, 2), "peak_mb": round(memory)}


def fork(work: Callable[[], object], output: Path) -> int:
    """Forks a process that does something and ends; returns its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # ends with the campaign
        with output.open("ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def called(function: Callable[..., Any], *arguments: Any, output: Path, limit: float = 60) -> Any:
    """Calls a function in a forked process, and returns what JSON can hold of its result.

    TensorStore does not allow a fork once it was used: what uses it is called by this.
    """
    result = output.with_suffix(".json")
    result.unlink(missing_ok=True)
    code, _ = ended(
        fork(lambda: result.write_text(json.dumps(function(*arguments))), output), limit
    )
    if code != 0:
        lines = output.read_text().strip().splitlines()
        raise Fell(f"{lines[-1] if lines else code}")
    return json.loads(result.read_text())


def ended(child: int, limit: float) -> tuple[int | None, float]:
    """Waits for a child, and kills it and its children when it takes longer.

    Returns:
        Its exit code (minus the signal that ended it; None when it took too long), and its largest
        memory in MB.
    """
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        number, status, usage = os.wait4(child, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1024
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    _, _, usage = os.wait4(child, 0)
    return None, usage.ru_maxrss / 1024


def _report(work: Callable[[], tuple[str, Figures]], path: Path) -> None:
    try:
        what, figures = work()
        result: dict[str, Any] = {"held": True, "what": what, "figures": figures}
    except Exception as error:
        traceback.print_exc()
        words = str(error) if isinstance(error, Fell) else f"{type(error).__name__}: {error}"
        result = {"held": False, "what": " ".join(words.split())[:400], "figures": {}}
    path.write_text(json.dumps(result))
