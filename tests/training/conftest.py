"""A small store of a moving square, and a world small enough to train in seconds."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tensorstore
from killing import train_here
from rich.console import Console
from schedules import finished_schedule, small_schedule

from forked import in_a_process
from genie.data.store import ClipStore, Episode, write_table, zarr_spec
from genie.models.layers.transformer import TransformerConfig
from genie.models.quantizers.vq import VQConfig
from genie.presets.schedule import TrainConfig
from genie.training.pipeline import train
from genie.world.config import GenieConfig
from sharing import once

SIDE = 16
LENGTHS = {"train": (40, 33, 5, 1), "val": (20,)}


def square_moving(length: int, rng: np.random.Generator) -> np.ndarray:
    """Frames u8 (T,16,16,3) of a square that takes a random step left, right, up or down."""
    frames = np.full((length, SIDE, SIDE, 3), 30, np.uint8)
    place = rng.integers(0, SIDE - 4, 2)
    for frame in frames:
        frame[place[0] : place[0] + 4, place[1] : place[1] + 4] = [220, 120, 40]
        step = np.array([[0, 3], [0, -3], [3, 0], [-3, 0]])[rng.integers(4)]
        place = np.clip(place + step, 0, SIDE - 4)
    return frames


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> ClipStore:
    folder = tmp_path_factory.mktemp("store")
    rng = np.random.default_rng(0)
    episodes, clips, start = [], [], 0
    for split, lengths in LENGTHS.items():
        for length in lengths:
            name = f"{len(episodes)}"
            episodes.append(Episode(len(episodes), name, split, start, length, name))
            clips.append(square_moving(length, rng))
            start += length
    spec = zarr_spec(folder / "frames", SIDE, SIDE)
    array = tensorstore.open(spec, create=True, shape=[start, SIDE, SIDE, 3]).result()
    array.write(np.concatenate(clips)).result()
    write_table(folder, height=SIDE, width=SIDE, fps=10, episodes=episodes, prepared={})
    return ClipStore.open(folder)


def _small_world():
    world = GenieConfig()
    layers = TransformerConfig(layers=1, width=16, heads=2)
    return replace(
        world,
        height=SIDE,
        width=SIDE,
        num_actions=4,
        tokenizer=replace(
            world.tokenizer,
            encoder=replace(layers, window=3, layers=2),
            decoder=replace(layers, window=2),
            quantizer=VQConfig(codes=32, dim=8),
        ),
        actions=replace(
            world.actions,
            downsample=2,
            max_displacement=1,
            encoder=replace(layers, window=2),
            decoder=replace(layers, window=3),
        ),
        dynamics=replace(world.dynamics, layers=1, width=16, heads=2, window=4),
        sampling=replace(world.sampling, steps=2),
    )


small_world = pytest.fixture(_small_world)
small_world_of_the_module = pytest.fixture(_small_world, scope="module")


@pytest.fixture
def schedule() -> TrainConfig:
    return small_schedule()


def _console() -> Console:
    """Writes plain lines to `console.file`."""
    return Console(file=io.StringIO(), width=200, force_terminal=False)


console = pytest.fixture(_console)


@pytest.fixture(scope="session")
def finished(store, tmp_path_factory):
    """A run that is done, made once for all workers; tests leave it as it is, or copy it."""

    def make(out):
        world, schedule = _small_world(), finished_schedule()
        train(store, out, world=world, train=schedule, console=_console())

    return once(tmp_path_factory, "finished", make)


@pytest.fixture(scope="session")
def processes():
    """Trains in a process of its own, and returns its exit code; arguments as of `train_here`."""
    return partial(in_a_process, train_here)
