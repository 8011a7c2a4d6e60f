from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from sample_videos import HERE
from test_prepare import content

from genie.core.config import UserError
from genie.data.engines import ATTEMPTS, prepare_on_ray
from genie.data.prepare import prepare

HERE = {name: value for name, value in HERE.items() if name != "workers"}


class Errors:
    class RayError(Exception):
        pass

    class RayTaskError(RayError):
        def __init__(self, cause: Exception) -> None:
            self.cause = cause


class Ray:
    """Ray's functions, so far as they are used; some tasks die. `benchmarks/cluster.py` has Ray."""

    exceptions = Errors

    def __init__(self, deaths: dict[str, int]) -> None:
        self.deaths, self.calls, self.open, self.most = deaths, [], 0, 0

    def is_initialized(self):
        return True

    def cluster_resources(self):
        return {"CPU": 1.0}

    def remote(self, **options):
        assert options == {"max_retries": 0, "num_cpus": 1}
        return lambda function: SimpleNamespace(
            remote=lambda *args, **kw: self.begin(function, args, kw)
        )

    def begin(self, function, args, options):
        self.open += 1
        self.most = max(self.most, self.open)
        self.calls.append((options["shard"], options["workers"]))
        return function, args, {**options, "workers": 0}

    def wait(self, tasks, num_returns):
        return tasks[-1:], tasks[:-1]

    def get(self, task):
        self.open -= 1
        function, args, options = task
        if self.deaths.get(options["shard"], 0) > 0:
            self.deaths[options["shard"]] -= 1
            raise Errors.RayError("the worker died")
        try:
            return function(*args, **options)
        except Exception as error:
            raise Errors.RayTaskError(error) from None


class Task(tuple):
    __hash__ = object.__hash__


@pytest.fixture
def ray(monkeypatch):
    ray = Ray({})
    begin = ray.begin
    ray.begin = lambda *args: Task(begin(*args))
    monkeypatch.setitem(sys.modules, "ray", ray)
    return ray


def test_the_store_is_that_of_one_process_though_workers_die(make_videos, tmp_path, ray):
    source = make_videos(5)
    prepare(source, tmp_path / "whole", workers=0, **HERE)
    ray.deaths = {"2/4": 2}
    report = prepare_on_ray(source, tmp_path / "out", **HERE)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert report.videos == 5
    assert not list(tmp_path.glob(".out*"))
    assert [workers for shard, workers in ray.calls if shard == "2/4"] == [0, 2, 2]
    assert ray.most == 2, "not all shards wait in the cluster"
    assert prepare_on_ray(source, tmp_path / "out", **HERE).complete_before


def test_errors_are_those_of_prepare(make_videos, tmp_path, ray):
    with pytest.raises(UserError, match="no such folder"):
        prepare_on_ray(tmp_path / "nothing", tmp_path / "out", **HERE)
    with pytest.raises(UserError, match="ray chooses shard and workers"):
        prepare_on_ray(tmp_path, tmp_path / "out", workers=2)
    source = make_videos(1)
    ray.deaths = {"1/1": ATTEMPTS}
    with pytest.raises(UserError, match="shard 1 of 1: its worker died 5 times"):
        prepare_on_ray(source, tmp_path / "out", shards=1, **HERE)


def test_a_run_that_was_begun_keeps_its_number_of_shards(make_videos, tmp_path, ray):
    source = make_videos(2)
    prepare(source, tmp_path / ".out.parts-2" / "1", shard="1/2", workers=0, **HERE)
    prepare_on_ray(source, tmp_path / "out", shards=7, **HERE)
    assert [shard for shard, _ in ray.calls] == ["1/2", "2/2"]


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"genie-worlds\[cluster\]"):
        prepare_on_ray(tmp_path, tmp_path / "out")
