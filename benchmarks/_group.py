"""Processes on this machine that train together, without a launcher of their own."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.process import BaseProcess

PRELOAD = ["_group", "genie.training.pipeline", "lightning.pytorch"]


def start(size: int, function: Callable[..., object], *arguments: object) -> list[BaseProcess]:
    """Calls a function in so many processes, each of which finds the others as with torchrun."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    group: list[BaseProcess] = [
        context.Process(target=_member, args=(rank, size, port, function, arguments))
        for rank in range(size)
    ]
    for process in group:
        process.start()
    return group


def _member(
    rank: int, size: int, port: int, function: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    names = {"LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": size}
    os.environ |= {name: str(value) for name, value in names.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    function(*arguments)
