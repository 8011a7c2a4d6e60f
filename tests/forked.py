"""Processes without the tests' type checks, forked from one that has imported the program."""

import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

PRELOAD = ["forked", "genie.training.pipeline", "tensorboard", "torch.utils.tensorboard"]


def in_a_process(function: Callable[..., object], *arguments: object) -> int | None:
    """Calls a function in a process of its own, and returns its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=function, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def run_script(script: str, *arguments: object) -> tuple[int | None, str, str]:
    """Runs a script in a process of its own; returns its exit code, output and errors."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "out", Path(folder) / "errors"
        code = in_a_process(_run, script, [str(argument) for argument in arguments], *files)
        return code, *(file.read_text() for file in files)


def output_of(script: str, *arguments: object) -> str:
    """Returns what a script prints; its error fails the test."""
    code, out, errors = run_script(script, *arguments)
    assert code == 0, errors
    return out


def _run(script: str, arguments: list[str], out: Path, errors: Path) -> None:
    for number, path in ((1, out), (2, errors)):
        with path.open("w") as file:
            os.dup2(file.fileno(), number)
    sys.argv = ["script", *arguments]
    exec(compile(script, "script", "exec"), {"__name__": "__main__"})


def in_a_group(size: int, function: Callable[..., object], *arguments: object) -> list[int | None]:
    """Calls a function in processes that train together, as torchrun would; returns exit codes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    processes = [
        context.Process(target=_member, args=(rank, size, port, function, arguments))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def _member(
    rank: int, size: int, port: int, function: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    names = {"LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": size}
    os.environ |= {name: str(value) for name, value in names.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    function(*arguments)
