import pytest
from sizes import millions

from genie.presets import small
from genie.world.bundled import folder_of
from genie.world.genie import Genie


def test_small_has_about_fifty_million():
    assert millions(small.small())["world"] == pytest.approx(50, rel=0.05)


def test_tiny_plays_with_under_ten_million():
    found = millions(small.tiny())
    assert found["dynamics"] + found["tokenizer"] < 10


def test_the_bundled_world_has_its_preset_s_sizes():
    world = Genie.from_pretrained(folder_of("coinrun-tiny"), device="cpu")
    wanted = small.coinrun_tiny().world
    assert world.config.tokenizer == wanted.tokenizer
    assert millions(small.coinrun_tiny())["world"] == pytest.approx(
        sum(weight.numel() for weight in world.parameters()) / 1e6
    )


def test_the_demo_trains_for_minutes():
    train = small.demo().train
    assert sum(stage.minutes for stage in (train.tokenizer, train.actions, train.dynamics)) < 7
