"""An expert for Procgen's games on a grid: it walks the shortest way to the next reward."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from genie.agents.planning.procgen_states import agent_position
from genie.core.config import require
from genie.data.recording.environments import EnvBatch, ProcgenBatch

MOVES = ("left", "right", "up", "down")
Place = tuple[float, float]


@dataclass(frozen=True)
class Nearest:
    """Walks to the nearest reward, such as a diamond of Miner or the cheese of Maze.

    The way is found breadth-first in copies of the game, so falling boulders and walls are those of
    the game itself. A place is tried once, by the shortest way that leaves the agent alive there.

    Attributes:
        depth: steps of the longest way that is tried.
        copies: games in which ways are tried.
        seed: of the moves where no reward can be reached.
    """

    depth: int = 60
    copies: int = 16
    seed: int = 0

    def attach(self, games: EnvBatch) -> _Walker:
        """Returns the player of some games.

        Raises:
            UserError: they are not Procgen's.
        """
        known = isinstance(games, ProcgenBatch)
        require(known, "the policy nearest plays games of Procgen only: it needs saved states")
        assert isinstance(games, ProcgenBatch)
        return _Walker(self, games)


@dataclass(frozen=True)
class _Node:
    """A moment of a copy of a game, and how it was reached."""

    game: int
    state: bytes
    moves: tuple[int, ...] = ()
    places: tuple[Place, ...] = ()


@dataclass
class _Way:
    """Moves to take, and where the agent stands before each of them."""

    moves: list[int] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)

    def leads_on_from(self, place: Place) -> bool:
        return bool(self.moves) and self.places[0] == place

    def next(self) -> int:
        self.places.pop(0)
        return self.moves.pop(0)


class _Walker:
    def __init__(self, config: Nearest, games: ProcgenBatch):
        self._config, self._games = config, games
        names = games.action_names or []
        self._actions = np.array([names.index(name) for name in MOVES])
        self._at_a_time = max(1, config.copies // len(MOVES))
        self._copies = games.another(self._at_a_time * len(MOVES))
        self._ways = [_Way() for _ in range(games.num)]
        self._random = np.random.default_rng(config.seed)

    def __call__(self, frames: np.ndarray, first: np.ndarray) -> np.ndarray:
        states = self._games.save()
        places = [_place(state) for state in states]
        due = [
            game
            for game, way in enumerate(self._ways)
            if first[game] or not way.leads_on_from(places[game])
        ]
        for game, way in self._find({game: states[game] for game in due}).items():
            self._ways[game] = way
        return np.array([way.next() for way in self._ways])

    def _find(self, states: dict[int, bytes]) -> dict[int, _Way]:
        """The shortest way of each game to a reward; one move by chance where there is none."""
        found = dict[int, _Way]()
        starts = {game: _place(state) for game, state in states.items()}
        seen = set(starts.items())
        frontier = [_Node(game, state, (), (starts[game],)) for game, state in states.items()]
        for _ in range(self._config.depth):
            reached = [
                step for part in self._parts(frontier) for step in self._step(part, found, seen)
            ]
            frontier = [node for node in reached if node.game not in found]
            if not frontier:
                break
        for game in states.keys() - found.keys():
            found[game] = _Way([int(self._random.choice(self._actions))], [starts[game]])
        return found

    def _parts(self, nodes: list[_Node]) -> Iterator[list[_Node]]:
        for first in range(0, len(nodes), self._at_a_time):
            yield nodes[first : first + self._at_a_time]

    def _step(
        self, nodes: list[_Node], found: dict[int, _Way], seen: set[tuple[int, Place]]
    ) -> Iterator[_Node]:
        """Tries every move from some moments, notes ways to rewards, and yields new moments."""
        padded = [node.state for node in nodes]
        padded += padded[-1:] * (self._at_a_time - len(nodes))
        self._copies.restore([state for state in padded for _ in MOVES])
        actions = np.tile(self._actions, self._at_a_time)
        step = self._copies.step(actions, np.zeros(len(actions), bool))
        states = self._copies.save()
        for number, action in enumerate(actions[: len(nodes) * len(MOVES)].tolist()):
            node, place = nodes[number // len(MOVES)], _place(states[number])
            moves = (*node.moves, action)
            if step.rewards[number] > 0:
                found.setdefault(node.game, _Way(list(moves), list(node.places)))
            elif not step.terminated[number] and (node.game, place) not in seen:
                seen.add((node.game, place))
                yield _Node(node.game, states[number], moves, (*node.places, place))


def _place(state: bytes) -> Place:
    x, y = agent_position(state)
    return float(x), float(y)
