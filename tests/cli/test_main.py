import errno
import json
import os
import subprocess
import sys
import warnings
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from genie.cli import main
from genie.core.config import UserError
from genie.data.prepare import PrepareReport, prepare
from genie.models.dynamics import DynamicsConfig
from genie.models.layers.transformer import TransformerConfig
from genie.models.tokenizer import VideoTokenizerConfig
from genie.presets import registry
from genie.world import bundled
from genie.world.config import GenieConfig
from genie.world.genie import Genie


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The folder of a small world with a prompt, never trained."""
    small = TransformerConfig(layers=1, width=16, heads=2, window=2)
    config = GenieConfig(
        height=16,
        width=16,
        num_actions=3,
        tokenizer=VideoTokenizerConfig(patch=8, encoder=small, decoder=small),
        dynamics=DynamicsConfig(layers=1, width=16, heads=2, window=2),
    )
    folder = tmp_path_factory.mktemp("world")
    torch.manual_seed(0)
    Genie(config).save_pretrained(folder)
    (folder / "prompts").mkdir()
    Image.new("RGB", (16, 16), "teal").save(folder / "prompts" / "0.png")
    return folder


def fails(capsys, *arguments: object, code: int = 2) -> str:
    """Runs a command that fails; returns its one sentence."""
    assert main.main([str(argument) for argument in arguments]) == code
    said = capsys.readouterr().err.strip()
    assert "Traceback" not in said
    assert said.startswith("genie: ")
    assert len(said.splitlines()) == 1
    return said.removeprefix("genie: ")


def test_help_is_quick_and_imports_nothing_heavy():
    heavy = "{'torch', 'lightning', 'fastapi', 'jsonargparse', 'av'}"
    code = (
        "import sys; from genie.cli.main import main; assert main(['--help']) == 0; "
        f"assert not {heavy} & set(sys.modules), set(sys.modules) & {heavy}"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(name in run.stdout for name in main.COMMANDS)


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "genie", "--version"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.startswith("genie 0.")


@pytest.mark.parametrize("name", main.COMMANDS)
def test_each_command_has_help(name, capsys):
    assert main.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: genie {name}" in shown
    assert "--config" in shown


def test_a_misspelt_command_is_guessed(capsys):
    assert "did you mean 'evaluate'" in fails(capsys, "evaluat")
    assert "choose one of record, prepare" in fails(capsys, "xyz")


def resolved(capsys, *arguments: object) -> dict:
    """The configuration that `genie train` ends up with."""
    command = ["train", "--data", "d", "--out", "o", *map(str, arguments), "--print_config"]
    assert main.main(command) == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_a_preset_gives_the_defaults_and_flags_override_them(capsys):
    flags = ("--dynamics.layers", 2, "--schedule.tokenizer.minutes", 5, "--num-actions", 4)
    config = resolved(capsys, "--preset", "coinrun", *flags)
    assert config["dynamics"]["layers"] == 2
    assert config["dynamics"]["width"] == 512
    assert config["num_actions"] == 4
    assert config["schedule"]["tokenizer"]["minutes"] == 5
    assert config["schedule"]["dynamics"]["steps"] == 200_000


def test_a_file_names_the_preset_and_flags_override_the_file(capsys, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("preset: coinrun\ndynamics:\n  layers: 3\n  heads: 4\n")
    config = resolved(capsys, "--config", file, "--dynamics.heads", 16)
    assert config["num_actions"] == registry.get("coinrun").world.num_actions
    assert (config["dynamics"]["layers"], config["dynamics"]["heads"]) == (3, 16)


def test_a_printed_configuration_reads_back(capsys, tmp_path):
    config = resolved(capsys, "--preset", "small", "--dynamics.layers", 2)
    file = tmp_path / "printed.yaml"
    file.write_text(yaml.safe_dump(config))
    assert resolved(capsys, "--config", file) == config


def test_an_unfinished_run_keeps_its_settings(capsys, tmp_path):
    settings = {"world": {"num_actions": 5}, "train": {"seed": 7}}
    (tmp_path / "train.json").write_text(json.dumps(settings))
    config = resolved(capsys, "--out", tmp_path)
    assert (config["num_actions"], config["schedule"]["seed"]) == (5, 7)
    assert resolved(capsys, "--out", tmp_path, "--preset", "tiny")["num_actions"] == 8


def test_a_world_to_go_on_from_gives_its_sizes(capsys, world):
    config = resolved(capsys, "--from", world, "--num-actions", 5)
    assert config["from"] == str(world)
    assert (config["num_actions"], config["height"], config["dynamics"]["width"]) == (5, 16, 16)
    tiny = registry.get("tiny").train.dynamics
    assert config["schedule"]["dynamics"]["learning_rate"] == tiny.learning_rate / 4
    other = resolved(capsys, "--from", world, "--preset", "demo")
    assert other["dynamics"]["width"] == 16
    assert other["schedule"]["dynamics"]["clip_frames"] == 5
    said = fails(capsys, "train", "--data", "d", "--out", "o", "--from", world / "none")
    assert "none" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--preset", "huge"], "there is no 'huge'; choose one of demo, tiny,"),
        (["--dynamics.layerz", "3"], "did you mean --dynamics.layers?"),
        (["--dynamics.layers", "many"], "dynamics.layers: expected a whole number, got 'many'"),
        (["--dynamics.layers", "0"], "dynamics.layers: must be at least 1"),
        (["--dynamics.context", "x"], "dynamics.context: expected clean or masked, got 'x'"),
        (["--schedule.seed", "-1"], "schedule.seed: -1 is negative"),
        (["--device", "tpu"], "device: expected cpu or cuda or mps, got 'tpu'"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: there is no such file"),
    ],
)
def test_a_bad_training_option_is_named(arguments, sentence, capsys):
    assert sentence in fails(capsys, "train", "--data", "d", "--out", "o", *arguments)


@pytest.mark.parametrize("text", ["a: [b", "- 1", "\x00"])
def test_a_broken_configuration_file_is_named(text, capsys, tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    assert str(file) in fails(capsys, "train", "--data", "d", "--out", "o", "--config", file)


def test_a_missing_gpu_is_said(capsys, monkeypatch, world):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = fails(capsys, "generate", world, "--actions", "1", "--device", "cuda")
    assert "there is no cuda here" in said


def test_missing_folders_and_videos_are_said(capsys, tmp_path, world):
    nowhere = tmp_path / "nowhere"
    assert "no such folder" in fails(capsys, "prepare", nowhere, "--out", tmp_path / "a")
    assert "holds no video" in fails(capsys, "prepare", world, "--out", tmp_path / "a")
    assert "no such folder" in fails(capsys, "train", "--data", nowhere, "--out", tmp_path / "b")
    assert "not a clip store" in fails(capsys, "evaluate", world, "--data", tmp_path)
    assert "no such world folder" in fails(capsys, "play", nowhere)
    assert "there is no such picture" in fails(capsys, "generate", world, nowhere / "x.png")


def test_evaluate_writes_a_page_again(capsys, tmp_path):
    report = bundled.folder_of(bundled.DEFAULT) / "report.json"
    page = tmp_path / "page.html"
    assert main.main(["evaluate", str(report), "--out", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    assert "coinrun-tiny" in page.read_text()
    assert "names one page" in fails(capsys, "evaluate", report, report, "--out", page)
    assert "no such report" in fails(capsys, "evaluate", tmp_path / "none.json")
    assert "--data" in fails(capsys, "evaluate", "coinrun-tiny")


def test_many_notes_on_videos_are_shortened(capsys, monkeypatch):
    skipped = {f"{number}.mp4": "holds no frames" for number in range(main.SHOWN_NOTES + 3)}
    report = PrepareReport(Path("store"), 0, 0, {}, 15.0, skipped)
    monkeypatch.setattr("genie.data.prepare.prepare", wraps(prepare)(lambda *_, **__: report))
    assert main.main(["prepare", "videos", "--out", "store"]) == 0
    said = capsys.readouterr().err
    assert said.count("holds no frames") == main.SHOWN_NOTES
    assert "3 more like these in store/store.json" in said


def test_environments_that_there_are_not(capsys, tmp_path):
    said = fails(capsys, "record", "procgen:pong", "--out", tmp_path / "v")
    assert "coinrun" in said
    assert "CartPole" in fails(capsys, "record", "gym:CartPool-v1", "--out", tmp_path / "v")


def test_a_world_of_another_version_and_a_damaged_one(capsys, tmp_path, world):
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes((world / "model.safetensors").read_bytes()[:-100])
    (other / "config.json").write_text((world / "config.json").read_text())
    assert "model.safetensors" in fails(capsys, "generate", other, "--actions", "1")
    values = json.loads((world / "config.json").read_text())
    values["version"] = 99
    (other / "config.json").write_text(json.dumps(values))
    assert "version" in fails(capsys, "generate", other, "--actions", "1")


def test_a_world_with_a_pickle_is_refused(capsys, tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    assert "pickle" in fails(capsys, "generate", tmp_path, "--actions", "1")


def test_a_picture_of_another_size_is_noted(capsys, tmp_path, world):
    picture = tmp_path / "wide.png"
    Image.fromarray(np.full((20, 50), 7, np.uint8)).save(picture)
    out = tmp_path / "clip.gif"
    assert (
        main.main(["generate", str(world), str(picture), "--actions", "1", "--out", str(out)]) == 0
    )
    heard = capsys.readouterr()
    assert heard.err.startswith("note: prompt: a picture of 50x20 pixels was cropped and resized")
    assert heard.out.strip() == str(out)


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (UserError("do\n  this"), 2, "do this"),
        (FileNotFoundError(errno.ENOENT, "x", "a.png"), 2, "a.png: there is no such file"),
        (OSError(errno.ENOSPC, "x", "runs/a"), 2, "runs/a: the disk is full; free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), 2, "a: permission denied"),
        (ModuleNotFoundError("x", name="lightning.pytorch"), 2, "'genie-worlds[train]'"),
        (ModuleNotFoundError("x", name="ale_py"), 2, "'genie-worlds[atari]'"),
        (MemoryError(), 2, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "out of memory"),
        (KeyboardInterrupt(), 130, "stopped by the keyboard"),
        (TypeError("oh"), 1, "TypeError: oh; this is a bug"),
    ],
)
def test_whatever_ends_a_command_is_one_sentence(error, code, sentence, capsys, monkeypatch):
    def broken(arguments: list[str]) -> None:
        raise error

    monkeypatch.setattr(main, "_dispatch", broken)
    assert sentence in fails(capsys, "play", code=code)


def test_debug_shows_the_traceback(monkeypatch):
    with pytest.raises(UserError):
        main.main(["--debug", "nothing"])
    monkeypatch.setenv("GENIE_DEBUG", "1")
    with pytest.raises(UserError):
        main.main(["nothing"])


def test_only_our_warnings_become_notes(capsys, monkeypatch):
    def warning(arguments: list[str]) -> None:
        warnings.warn("take\ncare", stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    monkeypatch.setattr(main, "_dispatch", warning)
    assert main.main([]) == 0
    assert capsys.readouterr().err == "note: take care\n"


COMMANDS = """
import sys
from genie.cli import main as cli

for command in (
    ["train", "--help"],
    ["train", "--data", "d", "--out", "o", "--print_config"],
    ["doctor", "--measure", "false"],
    ["generate", "coinrun-tiny", "--frames", "2", "--out", "f.png"],
):
    assert cli.main(command) == 0, command
"""


@pytest.mark.parametrize("arguments", [["-m", "genie", "--help"], ["-u", "-c", COMMANDS]])
def test_a_reader_that_has_seen_enough_is_no_error(arguments, tmp_path):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        command, settings = [sys.executable, *arguments], {"stdout": closed, "cwd": tmp_path}
        run = subprocess.run(command, stderr=subprocess.PIPE, check=False, **settings)
    assert run.stderr == b""
    assert run.returncode == 0
    done = [] if "--help" in arguments else ["f-0000.png", "f-0001.png", "f-0002.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == done  # the work is done all the same


def test_nobody_to_read_the_errors_changes_no_exit_code():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        command = [sys.executable, "-m", "genie", "trian"]
        run = subprocess.run(command, stdout=closed, stderr=closed, check=False)
    assert run.returncode == 2


def test_a_broken_pipe_inside_the_work_is_an_error(capsys, monkeypatch):
    def broken(arguments: list[str]) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(main, "_dispatch", broken)
    assert "broken pipe" in fails(capsys, "prepare")
