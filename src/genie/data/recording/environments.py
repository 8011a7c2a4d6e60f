"""Procgen and Gymnasium behind one small interface: many games at once, played for recording."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

import numpy as np

from genie.core.config import UserError, require

PROCGEN_GAMES = (
    "bigfish", "bossfight", "caveflyer", "chaser", "climber", "coinrun", "dodgeball", "fruitbot",
    "heist", "jumper", "leaper", "maze", "miner", "ninja", "plunder", "starpilot",
)  # fmt: skip
# Procgen ends the whole process on a mode that a game does not have, so it is checked here.
PROCGEN_MODES = {
    "easy": PROCGEN_GAMES,
    "hard": PROCGEN_GAMES,
    "extreme": ("chaser", "dodgeball", "leaper", "starpilot"),
    "memory": ("caveflyer", "dodgeball", "heist", "jumper", "maze", "miner"),
}
PROCGEN_OPTIONS = (
    "center_agent", "use_backgrounds", "use_monochrome_assets", "restrict_themes",
    "use_generated_assets", "paint_vel_info",
)  # fmt: skip
_ALL_LEVELS = 2**31 - 1


@dataclass(frozen=True)
class EnvStep:
    """What came of one action in each game.

    Attributes:
        rewards: (N,) rewards of the actions.
        terminated: (N,) the game ended by its own rules.
        truncated: (N,) the game was cut off.
        last_frames: the frame after the last action, by game, where the environment shows it.
    """

    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    last_frames: Mapping[int, np.ndarray] = field(default_factory=dict)


@runtime_checkable
class EnvBatch(Protocol):
    """N games that start again by themselves.

    Attributes:
        num: number of games.
        action_names: a name for each action, or None where actions are not a list of choices.
        levels: the level (Procgen) or seed (Gymnasium) that each game plays now.
    """

    num: int
    action_names: list[str] | None
    levels: list[int]

    def observe(self) -> np.ndarray:
        """Returns the frames to act on, u8 (N,H,W,3); they belong to the caller."""
        ...

    def step(self, actions: np.ndarray, restart: np.ndarray) -> EnvStep:
        """Acts in each game; those in the mask `restart` (N,) start a new episode instead."""
        ...

    def sample(self) -> np.ndarray:
        """Draws an action of each game, (N,); of objects where actions are not numbers."""
        ...

    def close(self) -> None:
        """Frees the games."""
        ...


@dataclass(frozen=True)
class LevelRange:
    """Which levels (or seeds) to play: those from `first` on, `count` of them."""

    first: int
    count: int

    @classmethod
    def of_split(cls, split: str, start: int, train: int, val: int) -> LevelRange:
        """Returns the levels of `train` or `val`: validation lies right after training.

        Args:
            split: `train` or `val`.
            start: first training level.
            train: number of training levels, 0 for all that there are.
            val: number of validation levels, at least 1.

        Raises:
            UserError: the numbers are negative or reach past the last level, 2**31 - 2.
        """
        require(start >= 0 and train >= 0, f"levels cannot be negative: {start}, {train}")
        require(val > 0, f"val_levels must be above 0, got {val}")
        train = train or _ALL_LEVELS - start - val
        require(
            train > 0 and start + train + val <= _ALL_LEVELS,
            f"levels end at {_ALL_LEVELS - 1}: lower start_level, num_levels or val_levels",
        )
        return cls(start, train) if split == "train" else cls(start + train, val)


# Makes N games that play the given levels, in an order that the seed decides.
EnvBatchFactory = Callable[[int, LevelRange, int], EnvBatch]


def make_env_batch(env: str, *, mode: str, options: Mapping[str, Any]) -> EnvBatchFactory:
    """Finds an environment by name and checks its options, without starting it.

    Args:
        env: `procgen:<game>`, `gym:<Gymnasium id>`, or `gym:<module>:<Gymnasium id>` for an
            environment that a Python module registers when it is imported.
        mode: Procgen's distribution mode; the other kind ignores it.
        options: passed on to the environment.

    Raises:
        UserError: it does not exist, has no such option, or its extra is not installed.
    """
    kind, _, name = env.partition(":")
    if kind == "procgen" and name:
        return _procgen_factory(name, mode, options)
    if kind == "gym" and name:
        return _gym_factory(name, options)
    raise UserError(
        f"{env!r} is not an environment: say procgen:<game>, such as procgen:coinrun "
        f"(or {', '.join(PROCGEN_GAMES)}), or gym:<id>, such as gym:ALE/Breakout-v5"
    )


def _procgen_factory(name: str, mode: str, options: Mapping[str, Any]) -> EnvBatchFactory:
    require(
        name in PROCGEN_GAMES, f"procgen has no game {name!r}; choose {', '.join(PROCGEN_GAMES)}"
    )
    modes = [known for known, games in PROCGEN_MODES.items() if name in games]
    require(mode in modes, f"{name} has no mode {mode!r}; choose {', '.join(modes)}")
    for option in options:
        known = f"choose {', '.join(PROCGEN_OPTIONS)}"
        require(option in PROCGEN_OPTIONS, f"procgen has no option {option!r}; {known}")
    if find_spec("procgen") is None:
        raise UserError(
            'procgen is not installed: pip install "genie-worlds[procgen]" '
            "(its wheels are for Python 3.10 and 3.11)"
        )
    return lambda num, levels, seed: ProcgenBatch(name, num, levels, seed, mode, options)


class ProcgenBatch:
    """Games of Procgen (Cobbe et al. 2019, arXiv 1912.01588), stepped together by its own library.

    The frame after the last action of an episode is never shown: the next one is the first frame
    of the next level.
    """

    def __init__(
        self,
        name: str,
        num: int,
        levels: LevelRange,
        seed: int,
        mode: str,
        options: Mapping[str, Any],
    ) -> None:
        self.num = num
        self._another = lambda count: ProcgenBatch(name, count, levels, seed, mode, options)
        with _dependencies_named("procgen"):
            procgen = _quiet_import("procgen")
        self._games = procgen.ProcgenGym3Env(
            num=num,
            env_name=name,
            distribution_mode=mode,
            start_level=levels.first,
            num_levels=levels.count,
            rand_seed=seed % 2**31,
            **options,
        )
        self._random = np.random.default_rng(seed)
        combos = self._games.get_combos()
        self._actions = len(combos)
        self.action_names: list[str] | None = ["+".join(c).lower() or "noop" for c in combos]
        self.levels = self._current_levels()

    def observe(self) -> np.ndarray:
        """Returns the frames to act on, u8 (N,64,64,3)."""
        return np.array(self._games.observe()[1]["rgb"])

    def step(self, actions: np.ndarray, restart: np.ndarray) -> EnvStep:
        """Acts in each game; action -1 makes Procgen start a new level."""
        self._games.act(np.where(restart, -1, actions).astype(np.int32))
        rewards, _, first = self._games.observe()
        ended = np.array(first)
        if ended.any():
            self.levels = self._current_levels()
        return EnvStep(np.array(rewards), ended & ~restart, ended & restart)

    def sample(self) -> np.ndarray:
        """Draws an action of each game, int64 (N,)."""
        return self._random.integers(self._actions, size=self.num)

    def another(self, num: int) -> ProcgenBatch:
        """Returns games of the same kind, in which saved states can be tried out."""
        return self._another(num)

    def save(self) -> list[bytes]:
        """Returns the state of each game, random numbers included."""
        return self._games.get_state()

    def restore(self, states: Sequence[bytes]) -> None:
        """Goes on from saved states, one for each game, also of other games of the same options."""
        self._games.set_state(list(states))
        self.levels = self._current_levels()

    def close(self) -> None:
        """Frees the games."""
        self._games.close()

    def _current_levels(self) -> list[int]:
        return [int(info["level_seed"]) for info in self._games.get_info()]


def _gym_factory(name: str, options: Mapping[str, Any]) -> EnvBatchFactory:
    import gymnasium

    module, _, env_id = name.rpartition(":")
    if module:
        _import_environments(module, name)
    if env_id.startswith("ALE/"):
        if find_spec("ale_py") is None:
            raise UserError('Atari is not installed: pip install "genie-worlds[atari]"')
        gymnasium.register_envs(importlib.import_module("ale_py"))
    try:
        spec = gymnasium.spec(env_id)
    except (gymnasium.error.Error, ImportError) as error:
        close = difflib.get_close_matches(env_id, gymnasium.registry, n=5, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}?" if close else "see gymnasium.pprint_registry()"
        raise UserError(f"Gymnasium has no environment {name!r} ({error}); {hint}") from None
    return lambda num, levels, seed: GymBatch(spec, num, levels, seed, options)


def _import_environments(module: str, env: str) -> None:
    # The command's own folder is on the path, the one that it is called from is not.
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if f"{module}.".startswith(f"{error.name}."):
            raise UserError(
                f"Gymnasium has no environment {env!r}: there is no module {module!r}; "
                "call from its folder, or install it"
            ) from None
        raise UserError(f"{module} needs a package that is not installed: {error}") from None
    except Exception as error:
        raise UserError(f"{module} cannot be imported ({type(error).__name__}: {error})") from error


@contextlib.contextmanager
def _dependencies_named(env: str) -> Iterator[None]:
    """Says what to install: many environments miss a package only when they are drawn."""
    import gymnasium

    try:
        yield
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise UserError(f"{env} needs a package that is not installed: {error}") from None


class GymBatch:
    """Any Gymnasium environment, several of them stepped one after the other.

    Frames are what `render()` draws, or the observation itself where nothing is drawn. Each
    episode has its own seed, in order from the first on.
    """

    def __init__(
        self, spec: Any, num: int, levels: LevelRange, seed: int, options: Mapping[str, Any]
    ) -> None:
        self.num = num
        self._all = levels
        self._next = seed % levels.count
        self._name = spec.id
        self._games = [_make(spec, options) for _ in range(num)]
        space: Any = self._games[0].action_space
        space.seed(seed)
        self._space = space
        self.action_names = _action_names(self._games[0])
        self._first_action = int(space.start) if self.action_names is not None else 0
        self.levels = [0] * num
        try:
            self._frames = [self._reset(number) for number in range(num)]
        except BaseException:
            self.close()
            raise

    def observe(self) -> np.ndarray:
        """Returns the frames to act on, u8 (N,H,W,3)."""
        return np.stack(self._frames)

    def step(self, actions: np.ndarray, restart: np.ndarray) -> EnvStep:
        """Acts in each game, one after the other."""
        rewards = np.zeros(self.num)
        terminated, truncated = np.zeros(self.num, bool), restart.copy()
        last_frames = {}
        for number in range(self.num):
            if not restart[number]:
                outcome = self._act(number, actions[number])
                rewards[number], terminated[number], truncated[number] = outcome
            if terminated[number] or truncated[number]:
                if not restart[number]:
                    last_frames[number] = self._frames[number]
                self._frames[number] = self._reset(number)
        return EnvStep(rewards, terminated, truncated, last_frames)

    def _act(self, number: int, action: Any) -> tuple[float, bool, bool]:
        if self.action_names is not None:
            action = int(action) + self._first_action
        with _dependencies_named(self._name):
            observation, reward, terminated, truncated, _ = self._games[number].step(action)
            self._frames[number] = _frame(self._games[number], observation)
        return float(reward), bool(terminated), bool(truncated)

    def _reset(self, number: int) -> np.ndarray:
        self.levels[number] = self._all.first + self._next
        self._next = (self._next + 1) % self._all.count
        with _dependencies_named(self._name):
            observation, _ = self._games[number].reset(seed=self.levels[number])
            return _frame(self._games[number], observation)

    def sample(self) -> np.ndarray:
        """Draws an action of each game, (N,)."""
        if self.action_names is not None:
            return np.array([self._space.sample() for _ in range(self.num)]) - self._first_action
        drawn = np.empty(self.num, object)
        drawn[:] = [self._space.sample() for _ in range(self.num)]
        return drawn

    def close(self) -> None:
        """Closes the environments."""
        for game in self._games:
            game.close()


def _make(spec: Any, options: Mapping[str, Any]) -> Any:
    import gymnasium

    unchecked = {"disable_env_checker": True}
    try:
        with warnings.catch_warnings(), _dependencies_named(spec.id):
            warnings.simplefilter("ignore")
            try:
                return gymnasium.make(spec, **{"render_mode": "rgb_array", **unchecked, **options})
            except TypeError:
                return gymnasium.make(
                    spec, **unchecked, **options
                )  # it may not know of render_mode
    except (gymnasium.error.Error, TypeError) as error:
        raise UserError(f"{spec.id} cannot be made ({error}); check its options") from None


def _frame(game: Any, observation: Any) -> np.ndarray:
    frame = game.render() if game.render_mode == "rgb_array" else observation
    picture = np.asarray(frame)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise UserError(
            f"{game.spec.id} draws no picture (uint8, height x width x 3), it gives "
            f"{picture.dtype} {picture.shape}; choose an environment with render mode rgb_array"
        )
    return picture


def _action_names(game: Any) -> list[str] | None:
    from gymnasium.spaces import Discrete

    if not isinstance(game.action_space, Discrete):
        return None
    count = int(game.action_space.n)
    meanings = getattr(game.unwrapped, "get_action_meanings", list)()
    names = [str(name) for name in meanings]
    return [name.lower() for name in names] if len(names) == count else _numbered(count)


def _numbered(count: int) -> list[str]:
    return [f"action {number}" for number in range(count)]


def _quiet_import(name: str) -> Any:
    # Old gym, under procgen, announces its successor on stderr and warns about itself.
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        return importlib.import_module(name)
