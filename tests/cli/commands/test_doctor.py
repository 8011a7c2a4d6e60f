import sys
import tomllib
from pathlib import Path

import torch

from genie.cli.commands import doctor as module
from genie.cli.commands.doctor import EXTRAS, Finding, doctor, examine, matmul_rate


def test_the_table_covers_the_machine_and_every_extra(capsys):
    findings = doctor(measure=False)
    topics = [finding.topic for finding in findings]
    assert topics[:7] == ["Python", "PyTorch", "CPU", "Memory", "Disk", "GPU", "Video"]
    assert [f"Extra: {name}" for name in EXTRAS] == topics[7:]
    assert "PyTorch" in capsys.readouterr().out


def test_a_missing_extra_comes_with_its_command(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    serve = next(f for f in examine(measure=False) if f.topic == "Extra: serve")
    assert serve.verdict == "missing"
    assert "pip install 'genie-worlds[serve]'" in serve.words


def test_procgen_on_a_newer_python_says_why(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    assert "use 3.11" in module._extra("procgen").words


def test_a_missing_encoder_is_said(monkeypatch):
    import av

    monkeypatch.setattr(av, "codecs_available", {"h264"})
    found = module._video()
    assert found.verdict == "missing"
    assert "libx264" in found.words


def test_what_is_slow_is_named_at_the_end(capsys, monkeypatch):
    slow = Finding("Playing", "1 frames/s", "slow", "pip install 'x[y]'")
    monkeypatch.setattr(module, "examine", lambda measure: [Finding("Python", "3"), slow])
    doctor()
    shown = capsys.readouterr().out
    assert "look at: Playing" in shown
    assert "x[y]" in shown


def test_rates_are_measured():
    assert matmul_rate(torch.float32, torch.device("cpu"), seconds=0.01) > 0
    playing = module._play_speed(torch.device("cpu"))
    assert "frames/s" in playing.found


def test_threads_that_wait_for_busy_cores_are_named():
    assert module._judged_speed({1: 40.0, 2: 57.0}, 2, fps=15).verdict == "good"
    cliff = module._judged_speed({1: 24.0, 2: 0.3}, 2, fps=15)
    assert cliff.verdict == "slow"
    assert "OMP_NUM_THREADS=1" in cliff.words
    assert "fewer MaskGIT steps" in module._judged_speed({1: 9.0}, 1, fps=15).words


def test_the_extras_are_those_of_the_package():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) - {"record", "docs", "dev"} == set(EXTRAS)
