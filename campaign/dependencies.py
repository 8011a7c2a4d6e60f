"""Runs a part of the tests with another Python or other versions of the dependencies.

python campaign/dependencies.py PYTHON NAME, where PYTHON is of an environment that has pytest,
hypothesis and beartype as well. The result goes to `benchmarks/results/dependencies.json`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "dependencies.json"
TESTS = (
    "tests/core/test_config.py", "tests/world/test_genie.py", "tests/world/test_replay.py",
    "tests/world/test_checkpoint.py", "tests/data/test_store.py", "tests/data/test_video.py",
    "tests/data/test_sampler.py", "tests/data/test_prepare.py", "tests/envs",
    "tests/training/test_pipeline.py", "tests/training/test_checkpointing.py",
    "tests/cli/test_parser.py", "tests/cli/test_options.py", "tests/cli/test_main.py",
    "tests/serving/http/test_app.py", "tests/serving/play/test_batch.py",
    "tests/export/test_onnx.py",
)  # fmt: skip
"""Each dependency is used by one of them."""
OPTIONS = (
    "-p", "no:cacheprovider", "-o", "filterwarnings=default", "-o",
    "addopts=-q --strict-markers --import-mode=importlib -p no:schemathesis", "--tb=short",
)  # fmt: skip
"""Older versions warn of other things, so warnings are no errors here."""
PACKAGES = ("torch", "numpy", "gymnasium", "jsonargparse", "fastapi", "pillow", "lightning")
VERSIONS = (
    "import json, platform, importlib.metadata as m; print(json.dumps({'python': "
    f"platform.python_version(), **{{n: m.version(n) for n in {PACKAGES}}}}}))"
)


def main(python: str, name: str) -> int:
    """Runs the tests, and writes what came of them; returns the exit code of pytest."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    found = subprocess.run([python, "-c", VERSIONS], check=True, capture_output=True, text=True)
    command = [python, "-m", "pytest", *OPTIONS, *TESTS]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    print(run.stdout[-3000:])
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", run.stdout)}
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    rows[name] = {**json.loads(found.stdout), "passed": 0, "failed": 0, **counts}
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    return run.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
