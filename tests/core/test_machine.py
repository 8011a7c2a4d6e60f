import os
import platform
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import torch

from genie.core import machine
from genie.core.machine import available_cores


def test_only_cores_that_this_process_may_use_count(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5}, raising=False)
    assert available_cores() == 2


def test_all_cores_count_where_the_system_sets_no_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1


def test_the_name_of_the_cpu(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda _: "processor\t: 0\nmodel name\t: A CPU: fast\n")
    assert machine.cpu_name() == "A CPU: fast"
    monkeypatch.setattr(Path, "read_text", lambda _: "processor\t: 0\n")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert machine.cpu_name() == platform.machine()


def test_a_tree_that_was_not_installed_has_no_version(monkeypatch):
    def none(_):
        raise PackageNotFoundError

    monkeypatch.setattr(machine, "version", none)
    assert machine.own_version() == "from source"


def test_versions_are_those_of_what_is_imported():
    found = machine.versions("torch", "numpy")
    assert found["torch"] == str(torch.__version__)
    assert found["numpy"] == np.__version__
    assert found["python"] == platform.python_version()
    assert found["genie-worlds"] == machine.own_version()
