"""The GPU's quarter of an hour, rehearsed on a CPU with a tiny world."""

import json
import tarfile
from pathlib import Path

import pytest

from forked import run_script
from genie import Genie

pytest.importorskip("procgen")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

TINY = """
import multiprocessing
import sys
from dataclasses import replace
import gpu_world

full = gpu_world.configuration

def configuration(options):
    world, train = full(options)
    small = {"layers": 1, "width": 32, "heads": 2}
    smaller = {
        name: replace(
            getattr(world, name),
            encoder=replace(getattr(world, name).encoder, **small),
            decoder=replace(getattr(world, name).decoder, **small),
        )
        for name in ("tokenizer", "actions")
    }
    quantizer = replace(world.tokenizer.quantizer, codes=64)
    smaller["tokenizer"] = replace(smaller["tokenizer"], quantizer=quantizer)
    return replace(world, **smaller, dynamics=replace(world.dynamics, **small)), train

gpu_world.configuration = configuration
gpu_world.FILM_FRAMES = 12
gpu_world.START_METHOD = "forkserver"  # starts each process afresh, but imports once
if __name__ == "__main__":
    multiprocessing.set_forkserver_preload(
        ["genie.data.recording.record", "genie.evaluation.evaluate", "genie.training.pipeline"]
    )
    gpu_world.main(sys.argv[1:])
"""


STARTED = f"""
import runpy, sys

sys.path.insert(0, {str(BENCHMARKS)!r})
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_rehearsal_leaves_a_world_a_report_and_a_film(tmp_path):
    script, out = tmp_path / "tiny.py", tmp_path / "out"
    script.write_text(TINY)
    options = ["--device", "cpu", "--rehearse", "--minutes", "0.1", "--patience", "240"]
    arguments = [script, out, *options, "--frames", "3000", "--cores", "1"]
    code, printed, errors = run_script(STARTED, *arguments)
    assert code == 0, printed + errors
    told = json.loads((out / "throughput.json").read_text())
    assert told["error"] is None
    assert told["evaluated"]
    assert all(told["stages"][name]["steps"] >= 1 for name in ("tokenizer", "actions", "dynamics"))
    files = list(out.iterdir())
    assert len(files) <= 8
    assert all(file.stat().st_size <= 16 * 2**20 for file in files)
    assert (out / "film.mp4").stat().st_size > 0
    joined = tmp_path / "world.tar"
    joined.write_bytes(b"".join(part.read_bytes() for part in sorted(out.glob("world.tar.*"))))
    with tarfile.open(joined) as tar:
        tar.extractall(tmp_path, filter="data")
    world = Genie.from_pretrained(tmp_path / "world", device="cpu")
    assert world.config.dynamics.width == 32
    assert len(list((tmp_path / "world/prompts").iterdir())) > 0


def test_what_fails_is_said_at_once(tmp_path):
    script, out = tmp_path / "tiny.py", tmp_path / "out"
    script.write_text(TINY.replace('"heads": 2', '"heads": 3'))
    options = ["--device", "cpu", "--rehearse", "--minutes", "0.3", "--frames", "1000"]
    code, _, errors = run_script(STARTED, script, out, *options, "--cores", "1")
    assert code == 1
    assert "heads" in errors


def test_a_base_of_other_frames_is_refused_before_anything_is_recorded(tmp_path):
    out = tmp_path / "out"
    arguments = [BENCHMARKS / "gpu_world.py", out, "--base", "miner-tiny"]
    code, _, errors = run_script(STARTED, *arguments)
    assert code == 1
    assert "miner-tiny" in errors
    assert "(80, 80)" in errors
    assert not (tmp_path / "out-work/videos").exists()
