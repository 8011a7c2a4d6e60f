"""What all tests share: shapes checked against signatures, one thread, the same random numbers.

With `pytest -n auto`, as `make test` runs it, three workers share two cores. A file stays on one
worker, where its fixtures are made once. A test marked `long` goes before all others, by itself
unless it is marked with an `xdist_group`.
"""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator

# Small tensors gain nothing from threads, and tests share the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

import shapes

# Imports leave millions of objects that live on: nothing is gained by looking through them again.
gc.disable()

# Stays on for the whole run: modules of genie are imported by the tests, after this file.
shapes.install()


WORKERS = 8
"""More would wait for the longest test anyway, and each takes a gigabyte."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Three for two cores that this process may use: tests wait for servers and browsers."""
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    return min(WORKERS, cores + cores // 2)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Says which tests stay together, and starts with the longest."""
    for item in items:
        assert " at 0x" not in item.nodeid, f"{item.nodeid}: has another name in each process"
    if not hasattr(config, "workerinput"):
        return
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            alone = item.get_closest_marker("long") is not None
            item.add_marker(pytest.mark.xdist_group(item.nodeid if alone else str(item.path)))


def pytest_collection_finish() -> None:
    """Collects garbage again from here on, among what the tests make."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module")
def short_detector() -> Iterator[None]:
    """Reports train the detector of the avatar for few steps; `tests/plugins` train it for all."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("genie.plugins.avatar.STEPS", 5)
        yield


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import numpy as np
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
