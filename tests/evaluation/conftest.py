"""A game that can be computed by hand, and worlds that have learned it perfectly or not at all.

A red square stands on one of 4 x 4 cells of 4 x 4 pixels. Action 0 stays, 1 goes right, 2 left,
3 down, around the edges. A token says whether the square is on a cell.
"""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from genie.evaluation import evaluate
from genie.evaluation.config import EvaluationConfig
from genie.evaluation.metrics.context import Evaluation
from genie.evaluation.metrics.metric import find_metrics
from genie.models.action_classifier import ActionClassifier
from genie.models.inverse_dynamics import InverseDynamics
from genie.world.maskgit import SamplingConfig

FEW = replace(
    EvaluationConfig.quick(),
    clips=8, horizon=5, batch=5, closed_loop_games=8, action_selection_games=4, closed_loop_steps=4,
    inverse_dynamics_steps=0,
)  # fmt: skip
CELLS, CELL = 4, 4
SIZE = CELLS * CELL
MOVES = torch.tensor([[0, 0], [0, 1], [0, -1], [1, 0]])


def draw(cells):
    """Frames (..., 16, 16, 3) of squares on cells (...)."""
    picture = torch.full((CELLS**2, SIZE, SIZE, 3), 40, dtype=torch.uint8)
    for cell in range(CELLS**2):
        y, x = CELL * (cell // CELLS), CELL * (cell % CELLS)
        picture[cell, y : y + CELL, x : x + CELL] = torch.tensor([230, 30, 30], dtype=torch.uint8)
    return picture[cells]


def look(frames):
    """Cells (...) of the squares in frames."""
    red = frames[..., CELL // 2 :: CELL, CELL // 2 :: CELL, 0]
    return red.flatten(-2).float().argmax(-1)


def move(cells, actions):
    step = MOVES[actions]
    row, column = cells // CELLS + step[..., 0], cells % CELLS + step[..., 1]
    return row % CELLS * CELLS + column % CELLS


@dataclass(frozen=True)
class GameConfig:
    height: int = SIZE
    width: int = SIZE
    fps: float = 10.0
    num_actions: int = 4
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


@dataclass(frozen=True)
class GameState:
    cells: torch.Tensor
    seed: torch.Tensor
    time: int = 0


class GameTokenizer(nn.Module):
    vocabulary = 2

    def encode(self, frames):
        return nn.functional.one_hot(look(frames), CELLS**2)

    def decode(self, tokens):
        return draw(tokens.argmax(-1))


class GameActions(nn.Module):
    frame_size = (SIZE, SIZE)

    def infer(self, frames):
        before, after = look(frames)[:, :-1], look(frames)[:, 1:]
        matches = torch.stack([move(before, torch.full_like(before, a)) == after for a in range(4)])
        return matches.int().argmax(0)

    def downsampled(self, frames):
        return frames

    def reconstruct(self, frames, actions=None):
        actions = self.infer(frames) if actions is None else actions
        return draw(move(look(frames)[:, :-1], actions))


class GameDynamics(nn.Module):
    vocabulary = 2

    def loss(self, tokens, actions, progress=1.0, mask_ratio=None):
        cells = tokens.argmax(-1)
        wrong = (move(cells[:, :-1], actions) != cells[:, 1:]).float().mean() + 0 * torch.rand(())
        return wrong, {"masked_cross_entropy": wrong, "masked_accuracy": 1 - wrong}


class GameWorld(nn.Module):
    """Plays the game; a world that does not obey stands still, or with noise moves at random."""

    def __init__(self, obeys=True, noise=False):
        super().__init__()
        self.config, self.device, self.folder = GameConfig(), torch.device("cpu"), None
        self.obeys, self.noise = obeys, noise
        self.tokenizer, self.actions, self.dynamics = GameTokenizer(), GameActions(), GameDynamics()

    def infer_actions(self, frames):
        return self.actions.infer(frames)

    def start(self, prompt, seed=0):
        return GameState(look(prompt)[:, -1], torch.as_tensor(seed))

    def step(self, state, action, sampling=None):
        cells = move(state.cells, action) if self.obeys else state.cells
        if self.noise:
            cells = move(cells, (state.seed // (7 + state.time)) % 4)
        return draw(cells), replace(state, cells=cells, time=state.time + 1)


class MemoryStore:
    """A store of random play in memory, every second episode held out."""

    def __init__(self, episodes=12, length=40, labelled=True, size=SIZE, action_names=None):
        rng = np.random.default_rng(0)
        self.height = self.width = size
        self.fps, self.path, self.action_names = 10.0, "somewhere/game", action_names
        self.true = torch.from_numpy(rng.integers(4, size=(episodes, length)))
        cells = [torch.from_numpy(rng.integers(CELLS**2, size=episodes))]
        for t in range(length - 1):
            cells.append(move(cells[-1], self.true[:, t]))
        self.frames = draw(torch.stack(cells, 1)).flatten(0, 1).numpy()
        self.episodes = [
            SimpleNamespace(
                id=i, split="val" if i % 2 else "train", start=i * length, length=length
            )
            for i in range(episodes)
        ]
        self._labelled = labelled

    def windows(self, starts, length):
        return self.frames[np.asarray(starts)[:, None] + np.arange(length)]

    def labels(self, split=None):
        if not self._labelled:
            return None
        labels = self.true.clone()
        labels[:, -1] = -1
        return labels.flatten().numpy()


@pytest.fixture
def game():
    """The pieces: `game.world(obeys=..., noise=...)`, `game.store(...)`, `game.draw(cells)`."""
    return SimpleNamespace(
        world=GameWorld,
        store=MemoryStore,
        grey_tokenizer=GreyTokenizer,
        draw=draw,
        look=look,
        move=move,
    )


class GreyTokenizer(nn.Module):
    """Sixteen grey levels, so that a window says a little about the level."""

    vocabulary = 16

    def encode(self, frames):
        return (frames[..., 2::4, 2::4, 0] // 16).flatten(-2).long()

    def decode(self, tokens):
        grey = (16 * tokens).unflatten(-1, (4, 4)).to(torch.uint8)
        grey = grey.repeat_interleave(4, -1).repeat_interleave(4, -2)
        return grey[..., None].expand(*grey.shape, 3)


@pytest.fixture
def grey_world(game):
    """The world of the game with tokens that are grey levels."""
    world = game.world()
    world.tokenizer = GreyTokenizer()
    return world


@pytest.fixture
def grey_store(game):
    """Ten held-out episodes of 4 x 4 greys that change with every frame, half of them dark."""
    made = game.store(episodes=20, length=80)
    greys = np.random.default_rng(1).integers(8, size=(1600, 4, 4, 1)) * 16
    made.frames = np.broadcast_to(greys, (1600, 4, 4, 3)).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    return made


class PerfectClassifier(ActionClassifier):
    """Reads the actions of the game, where 0 and 4 are two names for staying."""

    def __init__(self):
        network, names = InverseDynamics(5), ["stay", "right", "left", "down", "nothing"]
        super().__init__(network, network, [[0, 4], [1], [2], [3]], names, {})

    def predict(self, frames):
        return GameActions().infer(frames)


@pytest.fixture
def evaluation(game):
    """Makes an evaluation, of a few clips, without the inverse-dynamics network, which learns."""

    def make(world=None, store=None, classifier=None, batches=None, **changes):
        config = replace(FEW, **changes)
        found = Evaluation(
            world or game.world(), store or game.store(), config, metrics=find_metrics()
        )
        if classifier is not None:
            found._classifier = classifier
        if batches is not None:
            found.clips = batches
        return found

    with torch.no_grad():
        yield make


@pytest.fixture
def classifier():
    return PerfectClassifier()


@pytest.fixture
def real_store(tmp_path):
    """The same game as a clip store on disk, without true actions."""
    import tensorstore

    from genie.data.store import ClipStore, Episode, write_table, zarr_spec

    memory, folder = MemoryStore(episodes=8, length=20), tmp_path / "game"
    episodes = [
        Episode(e.id, f"{e.id}.mp4", e.split, e.start, e.length, str(e.id)) for e in memory.episodes
    ]
    spec = zarr_spec(folder / "frames", SIZE, SIZE)
    array = tensorstore.open(spec, create=True, shape=memory.frames.shape).result()
    array.write(memory.frames).result()
    write_table(folder, height=SIZE, width=SIZE, fps=15.0, episodes=episodes, prepared={})
    return ClipStore.open(folder)


@pytest.fixture
def real_world():
    """A world of the real classes, untrained and minute."""
    from genie.world.genie import Genie

    small = {"layers": 1, "width": 16, "heads": 2, "window": 2}
    return Genie(
        {
            "height": SIZE,
            "width": SIZE,
            "num_actions": 3,
            "tokenizer": {"encoder": small, "decoder": small, "quantizer": {"codes": 8, "dim": 4}},
            "actions": {"downsample": 2, "max_displacement": 1, "encoder": small, "decoder": small},
            "dynamics": small,
            "sampling": {"steps": 2},
        }
    )


@pytest.fixture
def game_world(game, monkeypatch):
    """A stand-in world is no `Genie`, so its facts are short."""
    facts = {
        "name": "game", "width": 16, "height": 16, "num_actions": 4,
        "parameters": {"total": 0}, "config": {},
    }  # fmt: skip
    monkeypatch.setattr(evaluate, "describe_world", lambda world, name: facts | {"name": name})
    return game.world
