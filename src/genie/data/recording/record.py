"""Plays Procgen or any Gymnasium environment into videos, with the true actions beside them."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genie.core.config import UserError, require
from genie.core.machine import available_cores
from genie.core.numbers import seed_of
from genie.core.progress import Progress
from genie.data.recording.encoders import Encoders, RecordedEpisode
from genie.data.recording.environments import EnvBatch, EnvStep, LevelRange, make_env_batch
from genie.data.recording.policies import ActionSampler, Policy, PolicyConfig, PolicyName
from genie.data.video import VideoWriter

SIDECAR_VERSION = 1
_BATCH = 32
_FRAMES_PER_GAME = 250


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
        seed: determines the policy's choices and the order of levels.
        policy: `random` takes any action at each step. `sticky` keeps the action with probability
            `sticky_action_prob`. `restless` is sticky, but takes another action after one that
            changed no pixel, so that games with walls keep moving. `mixture` is sticky with
            `random_action_prob` random actions. Or a function from observations u8 (N,H,W,3) to N
            actions, or an expert of `genie.agents.experts`. Of their actions `random_action_prob`
            are replaced.
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
    )
    chosen = tuple(actions) if actions is not None else None
    playing = PolicyConfig(policy, sticky_action_prob, random_action_prob, chosen)
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
    label = {"env": env, "policy": playing.name, "fps": fps}
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
            player = ActionSampler(playing, games, run_seed)
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

    def __post_init__(self) -> None:
        require(self.frames is None or self.episodes is None, "give frames or episodes, not both")
        amount = self.frames if self.episodes is None else self.episodes
        require((amount or 0) > 0, f"frames or episodes must be above 0, got {amount}")
        require(self.num_envs > 0, f"num_envs must be above 0, got {self.num_envs}")
        limit = self.max_episode_frames
        require(limit > 1, f"max_episode_frames must be above 1, got {limit}")
        require(self.val_fraction >= 0, f"val_fraction must be 0 or more, got {self.val_fraction}")

    def budget(self, split: str) -> _Budget:
        share = 1.0 if split == "train" else self.val_fraction
        if self.episodes is not None:
            amount = round(self.episodes * share)
            return _Budget(amount, False, min(self.num_envs, amount), self.max_episode_frames)
        amount = round((self.frames or 0) * share)
        games = max(1, min(self.num_envs, amount // _FRAMES_PER_GAME))
        return _Budget(amount, True, games, self.max_episode_frames)


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


class _Recorder:
    """Plays one split until its budget is spent."""

    def __init__(
        self,
        games: EnvBatch,
        player: ActionSampler,
        budget: _Budget,
        files: _EpisodePaths,
        video: Mapping[str, Any],
        label: Mapping[str, Any],
    ) -> None:
        self._games, self._player, self._budget = games, player, budget
        self._files, self._video, self._label = files, video, label
        self._open: list[RecordedEpisode | None] = [None] * games.num
        self._begun = [0] * games.num
        self._frames = self._episodes = 0

    def run(self, title: str | None) -> tuple[int, int]:
        """Returns the number of episodes and of frames; shows progress under a title, if any."""
        encoders = Encoders(available_cores(), self._sidecar)
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

    def _step(self, encoders: Encoders, first: np.ndarray) -> np.ndarray:
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
            episode = RecordedEpisode(
                path, VideoWriter(path, **self._video), self._games.levels[game]
            )
            self._open[game] = episode
            self._begun[game] += 1
        episode.add_frame(frame)
        self._frames += 1
        return True

    def _append_step(
        self, game: int, episode: RecordedEpisode, action: Any, step: EnvStep, restarted: bool
    ) -> None:
        if not restarted:
            episode.add_step(action, float(step.rewards[game]))
        if step.terminated[game] or step.truncated[game]:
            if game in step.last_frames:
                episode.add_frame(step.last_frames[game])
                self._frames += 1
            episode.ending = {
                "terminated": bool(step.terminated[game]),
                "truncated": bool(step.truncated[game]),
            }

    def _send(self, encoders: Encoders, game: int, episode: RecordedEpisode) -> None:
        encoders.send(game, episode)
        if episode.ending is not None:
            self._open[game] = None
            self._episodes += 1

    def _truncate(self, encoders: Encoders) -> None:
        for game, episode in enumerate(self._open):
            if episode is not None:
                episode.ending = {"terminated": False, "truncated": True}
                self._send(encoders, game, episode)

    def _sidecar(self, episode: RecordedEpisode) -> dict[str, Any]:
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
