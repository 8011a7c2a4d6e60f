"""What must hold for anything, tried with many examples: the properties of the tests."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

from campaign.harness import Attack, Fell, Figures

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests" / "test_properties.py"
NAMES = re.findall(r"^def (test_\w+)", TESTS.read_text(), re.MULTILINE)
EXAMPLES = 500


def _attack(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    name = NAMES[int(own.name.rpartition("-")[2]) % len(NAMES)]
    environment = {**os.environ, "GENIE_EXAMPLES": str(EXAMPLES), "OMP_NUM_THREADS": "1"}
    options = ["-p", "no:cacheprovider", "-p", "no:xdist", "--timeout=0", "--tb=short"]
    options += [f"--hypothesis-seed={dice.randrange(2**31)}", f"--basetemp={own / 'files'}"]
    command = [sys.executable, "-m", "pytest", *options, f"{TESTS}::{name}"]
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if found.returncode != 0:
        print(found.stdout)
        lines = [line for line in found.stdout.splitlines() if line.startswith("E ")]
        raise Fell(f"{name}: {' '.join(lines)[:300] or found.stderr[-300:]}")
    return name.removeprefix("test_").replace("_", " "), {"examples": EXAMPLES}


ATTACKS = (
    Attack("properties", f"{len(NAMES)} properties of configurations, stores and games are tried "
           "with random examples, a fifth as many of shards", "each holds for all of its examples",
           len(NAMES), _attack, limit=3600),
)  # fmt: skip
