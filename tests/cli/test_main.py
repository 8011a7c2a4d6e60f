import errno
import os
import re
import subprocess
import sys
import warnings

import pytest
from failing import fails
from sample_videos import HERE, moving_square

from genie.cli import commands, main
from genie.core.config import UserError
from genie.data.prepare import prepare
from genie.data.video import write_video
from recipes import module_of_recipe


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


FRAGMENT = re.compile(r"(of|on|at|in|for|with|without|after|by|as|sent|those|that|which)\b|$")
"""How a help line begins that is no phrase by itself: "of AdamW", "that play at the same time"."""
OPTION = re.compile(r"^  (-\S+|\w+)[^\n]*?(?:[ ]{2,}|\n\s{20,})(.*)$", re.MULTILINE)
GROUP = re.compile(r"^(?!usage|positional|options)(\w[^\n]*):$", re.MULTILINE)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_each_command_has_help_of_whole_phrases(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    assert main.main([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: genie {name}" in shown
    lines = dict(OPTION.findall(shown))
    assert "--config" in lines
    assert {option: words for option, words in lines.items() if FRAGMENT.match(words)} == {}
    assert [title for title in GROUP.findall(shown) if not title[0].isupper()] == []
    named = re.findall(r"--[\w.]+", main.COMMANDS[name].less_memory)
    assert [option for option in named if option.replace("STAGE", "dynamics") not in lines] == []


def test_the_command_of_the_recipe_is_found(tmp_path, capsys, monkeypatch):
    (tmp_path / "info.py").touch()
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    monkeypatch.setitem(sys.modules, "genie.cli.commands.info", module_of_recipe("Add a command"))
    found = commands.find_commands()
    assert [name for name in found if name != "info"] == list(main.COMMANDS)
    monkeypatch.setitem(main.COMMANDS, "info", found["info"])
    (tmp_path / "train").mkdir()
    write_video(tmp_path / "train" / "a.mp4", moving_square(20), 15)
    prepare(tmp_path, tmp_path / "store", **HERE)
    assert main.main(["info", str(tmp_path / "store")]) == 0
    assert capsys.readouterr().out == "train: 20 frames\n"
    assert "not a clip store" in fails(capsys, "info", tmp_path)


def test_a_misspelt_command_is_guessed(capsys):
    assert "did you mean 'evaluate'" in fails(capsys, "evaluat")
    assert "choose one of record, prepare" in fails(capsys, "xyz")


def test_a_command_of_two_words(capsys):
    assert main.main(["agent"]) == 0
    shown = capsys.readouterr().out
    assert "usage: genie agent COMMAND" in shown
    assert "  agent play" in shown
    assert "  record" not in shown
    assert main.main(["agent", "--help"]) == 0
    assert capsys.readouterr().out == shown
    assert "'agent plya'; did you mean 'agent play'?" in fails(capsys, "agent", "plya")
    assert "'agent 123'; did you mean 'agent " in fails(capsys, "agent", "123")


def test_missing_folders_and_videos_are_said(capsys, tmp_path, world):
    nowhere = tmp_path / "nowhere"
    assert "no such folder" in fails(capsys, "prepare", nowhere, "--out", tmp_path / "a")
    assert "holds no video" in fails(capsys, "prepare", world, "--out", tmp_path / "a")
    assert "no such folder" in fails(capsys, "train", "--data", nowhere, "--out", tmp_path / "b")
    assert "not a clip store" in fails(capsys, "evaluate", world, "--data", tmp_path)
    assert "no such world folder" in fails(capsys, "play", nowhere, "--port", 0)
    assert "there is no such picture" in fails(capsys, "generate", world, nowhere / "x.png")


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
        (RuntimeError("mmap: Cannot allocate memory (12)"), 2, "out of memory"),
        (RuntimeError("can't start new thread"), 2, "out of memory"),
        (ImportError("a.so: failed to map segment from shared object"), 2, "out of memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 2, "out of memory"),
        (KeyboardInterrupt(), 130, "stopped by the keyboard"),
        (TypeError("oh"), 1, "TypeError: oh; this is a bug"),
    ],
)
def test_whatever_ends_a_command_is_one_sentence(error, code, sentence, capsys, monkeypatch):
    def broken(arguments: list[str]) -> None:
        raise error

    monkeypatch.setattr(main, "_dispatch", broken)
    assert sentence in fails(capsys, "play", code=code)


@pytest.mark.parametrize(
    ("command", "lower"),
    [
        ("train", "lower --train.STAGE.batch_size"),
        ("evaluate", "lower --batch"),
        ("play", "give --dtype bfloat16"),
        ("merge", "use smaller batches"),
        ("nothing", "use smaller batches"),
    ],
)
def test_without_memory_it_says_what_to_lower(command, lower, capsys, monkeypatch):
    def broken(arguments: list[str]) -> None:
        raise MemoryError

    monkeypatch.setattr(main, "_dispatch", broken)
    assert f"out of memory: {lower}" in fails(capsys, command)


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
