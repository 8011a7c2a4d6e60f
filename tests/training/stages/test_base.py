from dataclasses import replace

import pytest
from schedules import small_schedule

from genie.training.interrupts import StopRequest
from genie.training.reporting import DiagnosticWarnings
from genie.training.stage import StageRun
from genie.training.stages.base import StageContext
from genie.training.stages.table import TABLE
from genie.world.genie import Genie


@pytest.fixture
def context(store, small_world, console, tmp_path):
    with StopRequest(console) as stop:
        run = StageRun(tmp_path, small_schedule(), stop, console)
        yield StageContext(run, store, Genie(small_world), DiagnosticWarnings(console))


def test_that_previews_are_of_trained_videos_is_said_once(context, console):
    longest = max(episode.length for episode in context.store.episodes_in_split("val"))
    assert context.preview_clips(4)[1] == "val"
    assert console.file.getvalue() == ""
    for _ in range(2):
        assert context.preview_clips(longest + 1)[1] == "train"
    assert console.file.getvalue().count("no held-out video") == 1


def test_what_is_computed_comes_back(context, console):
    def compute(advance):
        advance(0.5)
        return "tokens"

    assert context.precompute("tokens", compute) == "tokens"
    assert "computing tokens" in console.file.getvalue()


def test_only_joint_training_joins_stages():
    train = small_schedule()
    joint = replace(train, joint=True)
    assert not any(stage.joined(train) for stage in TABLE.values())
    assert [name for name, stage in TABLE.items() if stage.joined(joint)] == ["actions"]
