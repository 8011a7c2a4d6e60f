"""Plays Procgen or any Gymnasium environment into videos, with the true actions beside them."""

from __future__ import annotations

import errno
import json
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from genie.core.config import UserError, require
from genie.core.io import replacing
from genie.core.numbers import seed_of
from genie.core.progress import Progress
from genie.data.recording.environments import EnvBatch, EnvStep, LevelRange, make_env_batch
from genie.data.video import VideoWriter

SIDECAR_VERSION = 1
_BATCH = 32
_QUEUE = 32
_FRAMES_PER_GAME = 250

PolicyName = Literal["random", "sticky", "restless", "mixture"]
Policy = Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class RecordReport:
    """What was recorded.

    Attributes:
        out: the folder.
        episodes: number of videos by split.
        frames: number of frames by split.
        seconds: how long it took.
        frames_per_second: all frames divided by that time.
    """

    out: Path
    episodes: dict[str, int]
    frames: dict[str, int]
    seconds: float
    frames_per_second: float


def record(
    env: str,
    out: str | Path,
    *,
    frames: int | None = None,
    episodes: int | None = None,
    num_envs: int = 64,
    max_episode_frames: int = 1000,
    val_fraction: float = 0.1,
    fps: float = 15.0,
    size: int | tuple[int, int] | None = None,
    distribution_mode: str = "easy",
    start_level: int = 0,
    num_levels: int = 0,
    val_levels: int = 100_000,
    seed: int = 0,
    policy: PolicyName | Policy = "sticky",
    sticky_action_prob: float = 0.8,
    random_action_prob: float = 0.2,
    actions: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    append: bool = False,
    crf: int = 16,
    pixel_format: str = "yuv444p",
    preset: str = "ultrafast",
    progress: bool = True,
) -> RecordReport:
    """Records episodes to `out/train/*.mp4` and `out/val/*.mp4`, each with its true actions.

    Beside `<name>.mp4` lies `<name>.actions.json` with the actions, the rewards and the end of the
    episode. Training never reads it; evaluation does. Validation plays other levels (Procgen) or
    other seeds (Gymnasium) than training. Only whole videos ever have their final name.

    Args:
        env: `procgen:<game>` or `gym:<Gymnasium id>`, such as `gym:ALE/Breakout-v5`; or
            `gym:<module>:<id>`, such as `gym:my_games:Maze-v0`, after importing a module.
        out: folder to make.
        frames: training frames to record; the last episodes are cut off there. 10,000 when neither
            frames nor episodes are given.
        episodes: training episodes to record, instead of frames.
        num_envs: most games played at the same time; short recordings use fewer, so that their
            episodes are not all cut off early.
        max_episode_frames: time limit of an episode, in frames.
        val_fraction: validation frames (or episodes) to record, as a share of the training ones.
        fps: frames per second written into the videos.
        size: height and width of the videos, or one number for both; None keeps the game's own.
        distribution_mode: Procgen's `easy`, `hard`, `extreme` or `memory`.
        start_level: first level (Procgen) or seed (Gymnasium).
        num_levels: number of training levels, 0 for as many as there are.
        val_levels: number of validation levels, right after the training ones.
        seed: of the policy and of the order of levels.
        policy: `random` takes any action at each step. `sticky` keeps the action with probability
            `sticky_action_prob`. `restless` is sticky, but takes another action after one that
            changed no pixel, so that games with walls keep moving. `mixture` is sticky with
            `random_action_prob` random actions. Or a function from observations u8 (N,H,W,3) to N
            actions, of which `random_action_prob` are replaced.
        sticky_action_prob: probability to keep the action, 0..1.
        random_action_prob: share of random actions of `mixture` and of a function, 0..1.
        actions: play only these actions, by name, such as `["left", "noop", "right"]`; a name given
            twice is played twice as often.
        options: further options of the environment: `use_backgrounds`, `restrict_themes`,
            `use_monochrome_assets`, ... of Procgen, or arguments of Gymnasium's `make`.
        append: add to a folder that holds recordings already.
        crf: quality of the video, 0 (lossless) to 51.
        pixel_format: `yuv444p`, or `yuv420p` for browsers.
        preset: x264 speed preset: `veryfast` takes twice the time for half the bytes.
        progress: show a progress bar.

    Raises:
        UserError: no such environment, action or option, a missing extra, or a folder in use.
    """
    seed = seed_of(seed)
    config = _Config(
        frames=10_000 if frames is None and episodes is None else frames,
        episodes=episodes,
        num_envs=num_envs,
        max_episode_frames=max_episode_frames,
        val_fraction=val_fraction,
        policy=policy,
        sticky_action_prob=sticky_action_prob,
        random_action_prob=random_action_prob,
        actions=tuple(actions) if actions is not None else None,
    )
    make = make_env_batch(env, mode=distribution_mode, options=dict(options or {}))
    levels = {
        split: LevelRange.of_split(split, start_level, num_levels, val_levels)
        for split in ("train", "val")
    }
    pair = (size, size) if isinstance(size, int) else size
    video = {"fps": fps, "crf": crf, "pixel_format": pixel_format, "size": pair, "preset": preset}
    out = Path(out)
    files = {split: _EpisodePaths(out / split, env) for split in levels}
    _check_folder(out, append)
    label = {"env": env, "policy": config.policy_name, "fps": fps}
    if env.startswith("procgen:"):
        label["distribution_mode"] = distribution_mode
    counts: dict[str, tuple[int, int]] = {}
    began = time.perf_counter()
    for split in ("train", "val"):
        if (budget := config.budget(split)).amount == 0:
            continue
        # Another seed for each split and each time that the folder grows.
        run_seed = seed + 7919 * files[split].next + (split == "val")
        games = make(budget.games, levels[split], run_seed)
        try:
            player = _ActionSampler(config, games, run_seed)
            session = _Recorder(games, player, budget, files[split], video, label)
            with _no_empty_folders(files[split].folder):
                counts[split] = session.run(f"recording {split}" if progress else None)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(
                f"{out}: the disk is full; the videos so far are whole, "
                "free some space and go on with --append"
            ) from None
        finally:
            games.close()
    return _report(out, counts, time.perf_counter() - began)


def _report(out: Path, counts: Mapping[str, tuple[int, int]], seconds: float) -> RecordReport:
    return RecordReport(
        out=out,
        episodes={split: episodes for split, (episodes, _) in counts.items()},
        frames={split: frames for split, (_, frames) in counts.items()},
        seconds=seconds,
        frames_per_second=sum(frames for _, frames in counts.values()) / seconds,
    )


@dataclass(frozen=True)
class _Budget:
    """How much to record: `amount` frames in all, or episodes, shared evenly by the games."""

    amount: int
    counts_frames: bool
    games: int
    max_episode_frames: int

    def episodes_of(self, game: int) -> int:
        return self.amount // self.games + (game < self.amount % self.games)


@dataclass(frozen=True)
class _Config:
    frames: int | None
    episodes: int | None
    num_envs: int
    max_episode_frames: int
    val_fraction: float
    policy: PolicyName | Policy
    sticky_action_prob: float
    random_action_prob: float
    actions: tuple[str, ...] | None

    def __post_init__(self) -> None:
        require(self.frames is None or self.episodes is None, "give frames or episodes, not both")
        amount = self.frames if self.episodes is None else self.episodes
        require((amount or 0) > 0, f"frames or episodes must be above 0, got {amount}")
        require(self.num_envs > 0, f"num_envs must be above 0, got {self.num_envs}")
        limit = self.max_episode_frames
        require(limit > 1, f"max_episode_frames must be above 1, got {limit}")
        require(self.val_fraction >= 0, f"val_fraction must be 0 or more, got {self.val_fraction}")
        for name in ("sticky_action_prob", "random_action_prob"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} must be within 0..1, got {value}")
        names = get_args(PolicyName)
        known = callable(self.policy) or self.policy in names
        require(known, f"no policy {self.policy!r}; choose {', '.join(names)} or a function")

    @property
    def policy_name(self) -> str:
        if isinstance(self.policy, str):
            return self.policy
        return getattr(self.policy, "__name__", type(self.policy).__name__)

    def budget(self, split: str) -> _Budget:
        share = 1.0 if split == "train" else self.val_fraction
        if self.episodes is not None:
            amount = round(self.episodes * share)
            return _Budget(amount, False, min(self.num_envs, amount), self.max_episode_frames)
        amount = round((self.frames or 0) * share)
        games = max(1, min(self.num_envs, amount // _FRAMES_PER_GAME))
        return _Budget(amount, True, games, self.max_episode_frames)


class _ActionSampler:
    """Chooses the actions of all games."""

    def __init__(self, config: _Config, games: EnvBatch, seed: int) -> None:
        self._config, self._games = config, games
        self._random = np.random.default_rng([seed % 2**63, 1])
        self._allowed_actions = _allowed_actions(config.actions, games.action_names)
        self._held = self._sample()
        self._seen: np.ndarray | None = None

    def __call__(self, frames: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Returns the actions (N,) for frames u8 (N,H,W,3); `first` marks new episodes."""
        policy = self._config.policy
        if policy == "random":
            return self._sample()
        if callable(policy):
            return self._with_random(self._checked(policy(frames)))
        changes = first | (self._random.random(len(first)) >= self._config.sticky_action_prob)
        if policy == "restless":
            if self._seen is not None:
                changes |= (frames == self._seen).all(axis=(1, 2, 3))
            self._seen = frames.copy()
        self._held = _mix(self._held, self._sample(), changes)
        return self._with_random(self._held) if policy == "mixture" else self._held

    def _sample(self) -> np.ndarray:
        if self._allowed_actions is None:
            return self._games.sample()
        return self._random.choice(self._allowed_actions, size=self._games.num)

    def _with_random(self, actions: np.ndarray) -> np.ndarray:
        replaced = self._random.random(len(actions)) < self._config.random_action_prob
        return _mix(actions, self._sample(), replaced)

    def _checked(self, answer: Any) -> np.ndarray:
        names = self._games.action_names
        if names is None:
            actions = np.empty(self._games.num, object)
            actions[:] = list(answer)
            return actions
        actions = np.asarray(answer).astype(np.int64)
        right = actions.shape == (self._games.num,) and ((actions >= 0) & (actions < len(names)))
        require(
            bool(np.all(right)),
            f"the policy must return {self._games.num} actions within 0..{len(names) - 1}",
        )
        return actions


def _mix(actions: np.ndarray, others: np.ndarray, where: np.ndarray) -> np.ndarray:
    mixed = actions.copy()
    mixed[where] = others[where]
    return mixed


def _allowed_actions(
    chosen: Sequence[str] | None, names: Sequence[str] | None
) -> np.ndarray | None:
    if chosen is None:
        return None
    if names is None:
        raise UserError("this environment has no named actions; leave actions out")
    for name in chosen:
        require(name in names, f"no action {name!r}; choose {', '.join(names)}")
    require(len(chosen) > 0, f"actions: name at least one of {', '.join(names)}")
    return np.array([names.index(name) for name in chosen])


class _EpisodePaths:
    """Numbered names in the folder of a split."""

    def __init__(self, folder: Path, env: str) -> None:
        self.folder = folder
        self._stem = re.sub(r"\W+", "-", env.split(":", 1)[-1].lower()).strip("-")
        taken = [re.fullmatch(r".*-(\d+)\.mp4", path.name) for path in folder.glob("*.mp4")]
        self.next = max((int(match[1]) + 1 for match in taken if match), default=0)

    def new(self) -> Path:
        path = self.folder / f"{self._stem}-{self.next:06d}.mp4"
        self.next += 1
        return path


def _check_folder(out: Path, append: bool) -> None:
    require(not out.exists() or out.is_dir(), f"{out}: is a file; choose another --out")
    holds = sum(1 for path in out.rglob("*") if path.is_file()) if out.is_dir() else 0
    require(
        append or not holds,
        f"{out}: holds {holds} files already; choose another --out, or add to it with --append",
    )
    for left in [*out.glob("*/.*.part"), *out.glob("*/.*.actions.json")]:
        left.unlink()


@contextmanager
def _no_empty_folders(folder: Path) -> Iterator[None]:
    """Makes a folder, and removes it and those above that it made when nothing came of them."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for path in missing:
            with suppress(OSError):  # it holds something by now
                path.rmdir()
        raise


@dataclass
class _RecordedEpisode:
    """One game being recorded: frames wait here until they are a batch to encode."""

    path: Path
    writer: VideoWriter
    level: int
    frames: list[np.ndarray] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    length: int = 0
    ending: dict[str, bool] | None = None

    def add(self, frame: np.ndarray) -> None:
        self.frames.append(frame)
        self.length += 1


class _Encoders:
    """Threads that write the videos; FFmpeg works outside of Python's lock.

    All batches of an episode go to the same thread, in order.
    """

    def __init__(self, threads: int, sidecar: Callable[[_RecordedEpisode], dict[str, Any]]) -> None:
        self._sidecar = sidecar
        self._queues = [queue.Queue(_QUEUE) for _ in range(threads)]
        self._threads = [
            threading.Thread(target=self._work, args=(jobs,), daemon=True) for jobs in self._queues
        ]
        self._error: BaseException | None = None
        self._unfinished: set[VideoWriter] = set()
        for thread in self._threads:
            thread.start()

    def send(self, game: int, episode: _RecordedEpisode) -> None:
        """Encodes what waits in the episode, and finishes it when it has ended.

        Raises:
            OSError: a video could not be written.
        """
        if self._error is not None:
            raise self._error
        frames, episode.frames = episode.frames, []
        self._queues[game % len(self._queues)].put((episode, frames, episode.ending is not None))

    def close(self) -> None:
        """Waits for all that was sent."""
        self._join()
        if self._error is not None:
            raise self._error

    def drop(self) -> None:
        """Ends at once, and removes the videos that are not whole."""
        self._error = self._error or InterruptedError("recording was stopped")
        self._join()
        for writer in self._unfinished:
            writer.discard()

    def _join(self) -> None:
        for jobs in self._queues:
            jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self, jobs: queue.Queue[Any]) -> None:
        while (job := jobs.get()) is not None:
            if self._error is not None:
                continue
            try:
                self._encode(*job)
            except BaseException as error:
                self._error = error

    def _encode(self, episode: _RecordedEpisode, frames: Sequence[np.ndarray], ended: bool) -> None:
        self._unfinished.add(episode.writer)
        for frame in frames:
            episode.writer.write(frame)
        if ended:
            # The actions first: a video that is there has them.
            with replacing(episode.path.with_suffix(".actions.json")) as path:
                path.write_text(json.dumps(self._sidecar(episode)))
            episode.writer.close()
            self._unfinished.discard(episode.writer)


class _Recorder:
    """Plays one split until its budget is spent."""

    def __init__(
        self,
        games: EnvBatch,
        player: _ActionSampler,
        budget: _Budget,
        files: _EpisodePaths,
        video: Mapping[str, Any],
        label: Mapping[str, Any],
    ) -> None:
        self._games, self._player, self._budget = games, player, budget
        self._files, self._video, self._label = files, video, label
        self._open: list[_RecordedEpisode | None] = [None] * games.num
        self._begun = [0] * games.num
        self._frames = self._episodes = 0

    def run(self, title: str | None) -> tuple[int, int]:
        """Returns the number of episodes and of frames; shows progress under a title, if any."""
        encoders = _Encoders(_cores(), self._sidecar)
        try:
            unit = "frames" if self._budget.counts_frames else "episodes"
            show = title is not None
            with Progress(title or "", self._budget.amount, unit=unit, show=show) as bar:
                first = np.ones(self._games.num, bool)
                while not self._budget_used():
                    first = self._step(encoders, first)
                    bar.update(self._done())
            self._truncate(encoders)
            encoders.close()
        except BaseException:
            encoders.drop()
            raise
        return self._episodes, self._frames

    def _done(self) -> int:
        return self._frames if self._budget.counts_frames else self._episodes

    def _budget_used(self) -> bool:
        return self._done() >= self._budget.amount

    def _step(self, encoders: _Encoders, first: np.ndarray) -> np.ndarray:
        frames = self._games.observe()
        actions = self._player(frames, first)
        taken = [game for game, frame in enumerate(frames) if self._append_frame(game, frame)]
        limit = self._budget.max_episode_frames
        restart = np.array([e is not None and e.length >= limit for e in self._open])
        step = self._games.step(actions, restart)
        ended = step.terminated | step.truncated
        for game in taken:
            episode = self._open[game]
            assert episode is not None
            self._append_step(game, episode, actions[game], step, bool(restart[game]))
            if ended[game] or len(episode.frames) >= _BATCH:
                self._send(encoders, game, episode)
        return ended

    def _append_frame(self, game: int, frame: np.ndarray) -> bool:
        episode = self._open[game]
        if self._budget.counts_frames:
            wanted = self._frames < self._budget.amount
        else:
            wanted = episode is not None or self._begun[game] < self._budget.episodes_of(game)
        if not wanted:
            return False
        if episode is None:
            path = self._files.new()
            episode = _RecordedEpisode(
                path, VideoWriter(path, **self._video), self._games.levels[game]
            )
            self._open[game] = episode
            self._begun[game] += 1
        episode.add(frame)
        self._frames += 1
        return True

    def _append_step(
        self, game: int, episode: _RecordedEpisode, action: Any, step: EnvStep, restarted: bool
    ) -> None:
        if not restarted:
            episode.actions.append(_plain(action))
            episode.rewards.append(float(step.rewards[game]))
        if step.terminated[game] or step.truncated[game]:
            if game in step.last_frames:
                episode.add(step.last_frames[game])
                self._frames += 1
            episode.ending = {
                "terminated": bool(step.terminated[game]),
                "truncated": bool(step.truncated[game]),
            }

    def _send(self, encoders: _Encoders, game: int, episode: _RecordedEpisode) -> None:
        encoders.send(game, episode)
        if episode.ending is not None:
            self._open[game] = None
            self._episodes += 1

    def _truncate(self, encoders: _Encoders) -> None:
        for game, episode in enumerate(self._open):
            if episode is not None:
                episode.ending = {"terminated": False, "truncated": True}
                self._send(encoders, game, episode)

    def _sidecar(self, episode: _RecordedEpisode) -> dict[str, Any]:
        return {
            "version": SIDECAR_VERSION,
            **self._label,
            "level": episode.level,
            "frames": episode.length,
            **(episode.ending or {}),
            "action_names": self._games.action_names,
            "actions": episode.actions,
            "rewards": episode.rewards,
        }


def _plain(action: Any) -> Any:
    """Returns an action of any space as numbers, words, lists and dictionaries."""
    if isinstance(action, Mapping):
        return {str(name): _plain(part) for name, part in action.items()}
    if isinstance(action, tuple | list):
        return [_plain(part) for part in action]
    return action if action is None or isinstance(action, str) else np.asarray(action).tolist()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
