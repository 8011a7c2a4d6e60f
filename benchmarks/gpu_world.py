"""Makes a CoinRun world in a few minutes on a fresh machine with one GPU, and measures it.

Records mixed play with all cores, prepares it, trains the three models in bf16 with compiled
losses, evaluates, and packs all results into at most eight files of at most 16 MiB. The tokenizer
and the latent action model train side by side on the first part of the recording while the rest is
recorded and prepared. The dynamics model then trains on all of it. With `--base`, the dynamics of
that world go on, and it keeps its configuration, its tokenizer and, without `--new_actions`, its
latent actions. Missing packages must be on `PYTHONPATH`.

python benchmarks/gpu_world.py OUT                                    # nine minutes, one GPU
python benchmarks/gpu_world.py OUT --base coinrun-9m
python benchmarks/gpu_world.py OUT --device cpu --rehearse --minutes 2 --frames 8000
cat OUT/world.tar.* | tar x                                           # the world
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tarfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

PART_BYTES = 15 * 2**20
RANDOM_SHARE = 0.3
GAME = {"use_backgrounds": False, "restrict_themes": False}
MODE, SIZE = "hard", (64, 64)
ACTIONS = ["right", "right", "right+up", "right+up", "left", "left+up", "up", "noop"]
FIRST_SHARE = 0.2
"""Share of the frames that the tokenizer and the latent action model train on."""

COMPILE_SECONDS = 45
START_METHOD = "spawn"
"""How processes start; a process that was forked from one with CUDA could not use it."""

FILM_CLIPS, FILM_FRAMES = 4, 64


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    out: Path
    work: Path
    minutes: float
    frames: int
    device: str
    rehearse: bool
    cores: int
    patience: float
    stages_share: float
    evaluation_share: float
    base: str | None = None
    new_actions: bool = False

    @property
    def first_stages(self) -> tuple[str, ...]:
        """Stages before the dynamics."""
        if not self.base:
            return "tokenizer", "actions"
        return ("actions",) if self.new_actions else ()


def configuration(options: Options) -> tuple[Any, Any]:
    """The sizes of the world and its schedule, without minutes.

    Batches suit a GPU. A rehearsal has the same models and batches of two clips.
    """
    from genie.models.layers.transformer import TransformerConfig
    from genie.models.quantizers.fsq import FSQConfig
    from genie.presets import registry
    from genie.presets.schedule import StageConfig

    base = registry.get("coinrun-tiny")
    block = TransformerConfig(layers=3, width=192, heads=6, window=1)
    alone = replace(block, spatial_attention=False)
    world = replace(
        base.world,
        fps=15.0,
        tokenizer=replace(
            base.world.tokenizer,
            encoder=alone,
            decoder=replace(block, window=2),
            quantizer=FSQConfig(codes=4375),
        ),
        actions=replace(
            base.world.actions,
            encoder=replace(alone, width=128, heads=4),
            decoder=replace(alone, width=128, heads=4, window=4),
            num_motions=4,
        ),
        dynamics=replace(
            base.world.dynamics,
            layers=5,
            width=192,
            heads=6,
            window=8,
            action_dropout=0.25,
            unconditional_fraction=0.1,
        ),
    )
    stage = StageConfig(
        minutes=1.0,
        batch_size=2 if options.rehearse else 128,
        clip_frames=4,
        learning_rate=2e-3,
        final_learning_rate=5e-5,
        warmup_steps=200,
        optimizer="muon",
        beta2=0.99,
        muon_lr_scale=5.0,
        ema_decay=0.9 if options.rehearse else 0.999,
    )
    small = 2 if options.rehearse else 64
    train = replace(
        base.train,
        tokenizer=stage,
        actions=replace(stage, batch_size=small, clip_frames=7, ema_decay=0.0),
        dynamics=replace(stage, batch_size=small, clip_frames=10),
        precision="bf16",
        compile=not options.rehearse,
        previews_every=0,
        diagnostics_every=0,
        checkpoint_steps=0,
        checkpoint_minutes=0.0,
        workers=4,
    )
    return world, train


# What the processes do. Each is a function of the module, because processes are spawned.


def record_part(folder: Path, number: int, frames: int, val_fraction: float, core: int) -> float:
    """Records a part of the play on one core; even parts by the scripted runner."""
    from runner import Runner

    import genie

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    began = time.perf_counter()
    policy = {"policy": Runner(number)} if number % 2 == 0 else {"policy": "mixture"}
    genie.record(
        "procgen:coinrun",
        folder,
        frames=frames,
        val_fraction=val_fraction,
        num_envs=32,
        distribution_mode=MODE,
        options=GAME,
        actions=ACTIONS,
        sticky_action_prob=0.85,
        random_action_prob=RANDOM_SHARE,
        seed=1000 + number,
        crf=0,
        progress=False,
        **policy,
    )
    return time.perf_counter() - began


def prepare_store(videos: Path, store: Path, workers: int) -> None:
    from genie.data.prepare import prepare

    prepare(videos, store, fps=15, workers=workers, progress=False)


def train_stage(
    name: str,
    store: Path,
    folder: Path,
    world: Any,
    train: Any,
    minutes: float,
    base: Path | str | None,
) -> None:
    """Trains one stage; the others keep what the base has."""
    from genie.data.store import ClipStore
    from genie.training import token_cache
    from genie.training.pipeline import train as run

    off = {
        other: replace(getattr(train, other), minutes=0.0)
        for other in ("tokenizer", "actions", "dynamics")
        if other != name and base is not None
    }
    schedule = replace(train, **off, **{name: replace(getattr(train, name), minutes=minutes)})
    frames = ClipStore.open(store, cache_bytes=2**36)
    if train.accelerator == "cuda":
        token_cache.FRAMES_AT_ONCE, token_cache.PIECE_FRAMES = 4096, 65_536
    try:
        run(frames, folder, world=world, train=schedule, stages=[name], base=base)
    except Exception:
        if not train.compile:
            raise
        traceback.print_exc()
        print("once more without compiling", flush=True)
        schedule = replace(schedule, compile=False)
        run(frames, folder, world=world, train=schedule, stages=[name], base=base)


def warm_up(world: Any, train: Any, device: str) -> None:
    """Compiles the loss of the dynamics once, so that the stage finds its kernels on disk."""
    from genie import Genie

    stage = train.dynamics
    torch.manual_seed(0)
    dynamics = Genie(world).dynamics.to(device).train()
    places = (stage.batch_size, stage.clip_frames, dynamics.tokens_per_frame)
    tokens = torch.randint(dynamics.vocabulary, places, device=device)
    actions = torch.randint(world.num_actions, places[:2], device=device)[:, 1:]
    loss_of = torch.compile(dynamics.loss) if train.compile else dynamics.loss
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        loss, _ = loss_of(tokens, actions, progress=0.0)
    loss.backward()


def evaluate_world(world: Path, store: Path, out: Path, device: str, rehearse: bool) -> None:
    from genie import evaluate
    from genie.data.store import ClipStore
    from genie.evaluation.config import CoherenceConfig, EvaluationConfig, SeparationConfig

    config = EvaluationConfig.quick()
    if rehearse:
        config = replace(
            config, clips=4, horizon=4, long_clips=0, closed_loop_games=2, closed_loop_steps=2,
            supervised_clips=8, inverse_dynamics_steps=5, action_prompts=1, action_steps=2,
            action_selection_games=2, figure_clips=1,
            separation=SeparationConfig(states=2, repeats=2, permutations=19),
            coherence=CoherenceConfig(rollouts=((2, 16),)),
        )  # fmt: skip
    batch = config.batch if rehearse else 64
    frames = ClipStore.open(store, cache_bytes=2**36)
    evaluate(world, frames, out, config=config, batch=batch, device=device, progress=False)


@torch.no_grad()
def write_film(world: Path, store: Path, out: Path, device: str) -> None:
    """Real held-out clips above the same games played with inferred actions."""
    from genie import Genie
    from genie.data.store import ClipStore
    from genie.data.video import VideoWriter
    from genie.training.previews import held_out_clips

    genie = Genie.from_pretrained(world, device=device)
    real = held_out_clips(ClipStore.open(store, cache_bytes=2**36), FILM_FRAMES, FILM_CLIPS)
    actions = genie.infer_actions(real.to(device))
    made = genie.generate(real[:, :1].to(device), actions.tolist()).cpu()
    rows = torch.cat([torch.cat(list(clips), dim=2) for clips in (real, made)], dim=1).numpy()
    with VideoWriter(out, 15, crf=18, pixel_format="yuv420p", scale=4) as video:
        for frame in rows:
            video.write(frame)


class Work:
    """Processes with logs of their own; one that fails ends the run."""

    def __init__(self, logs: Path) -> None:
        self.logs, self.context = logs, multiprocessing.get_context(START_METHOD)
        self.running: dict[str, Any] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, function: Callable[..., None], *arguments: Any) -> None:
        log = self.logs / f"{name}.log"
        process = self.context.Process(target=_logged, args=(log, function, arguments), name=name)
        process.start()
        self.running[name] = process

    def wait(self, *names: str, seconds: float | None = None, needed: bool = True) -> bool:
        """Waits for some processes; returns whether all ended well in time."""
        until = time.monotonic() + seconds if seconds is not None else None
        while any(self.running[name].is_alive() for name in names):
            if until is not None and time.monotonic() > until:
                break
            self.check()
            time.sleep(0.1)
        well = all(self.running[name].exitcode == 0 for name in names)
        for name in names:
            self._end(self.running.pop(name))
        if needed and not well:
            raise RuntimeError(f"{', '.join(names)}: failed or took too long, see the logs")
        return well

    def check(self) -> None:
        """Raises where a process has failed."""
        for name, process in self.running.items():
            if process.exitcode not in (None, 0):
                raise RuntimeError(f"{name} failed: {self.tail(name)}")

    def tail(self, name: str) -> str:
        log = self.logs / f"{name}.log"
        return log.read_text()[-1500:] if log.exists() else "no log"

    def close(self) -> None:
        for process in self.running.values():
            self._end(process)

    def _end(self, process: Any) -> None:
        if process.is_alive():
            process.terminate()
            process.join(5)
        if process.is_alive():
            process.kill()
        process.join()


def _logged(log: Path, function: Callable[..., None], arguments: Sequence[Any]) -> None:
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            function(*arguments)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            raise SystemExit(1) from None


@dataclass
class Timeline:
    """When each part began and ended, in seconds since the start."""

    began: float = field(default_factory=time.monotonic)
    parts: dict[str, list[float]] = field(default_factory=dict)

    def now(self) -> float:
        return time.monotonic() - self.began

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self.start(name)
        yield
        self.end(name)

    def start(self, name: str) -> None:
        self.parts[name] = [round(self.now(), 1)]
        print(f"{self.now():6.1f} s  {name} begins", flush=True)

    def end(self, name: str) -> None:
        self.parts[name].append(round(self.now(), 1))
        print(f"{self.now():6.1f} s  {name} ends", flush=True)


class Gauge:
    """Reads twice a second how busy the GPU is; nothing where there is none."""

    QUERY = "--query-gpu=utilization.gpu,memory.used,power.draw"

    def __init__(self, path: Path, timeline: Timeline) -> None:
        self.path, self.offset, self.process = path, timeline.now(), None
        if torch.cuda.is_available():
            command = ["nvidia-smi", self.QUERY, "--format=csv,noheader,nounits", "-lms", "500"]
            self.process = subprocess.Popen(command, stdout=path.open("w"))

    def close(self, parts: dict[str, list[float]]) -> dict[str, Any]:
        """Means over each part."""
        if self.process is None:
            return {}
        self.process.terminate()
        self.process.wait()
        lines = [line for line in self.path.read_text().splitlines() if line.count(",") == 2]
        rows = np.array([[float(value) for value in line.split(",")] for line in lines])
        times = self.offset + 0.5 * np.arange(len(rows))
        means = {}
        for name, (start, *end) in parts.items():
            during = rows[(times >= start) & (times < (end[0] if end else np.inf))]
            if len(during):
                busy, memory, power = during.mean(axis=0).round(1).tolist()
                means[name] = {"busy_percent": busy, "memory_mib": memory, "watts": power}
        return means


class Run:
    """The whole of it, in order."""

    def __init__(self, options: Options) -> None:
        from genie.core.config import require
        from genie.training import finetune

        self.options = options
        self.time = Timeline()
        self.work = Work(options.work / "logs")
        self.gauge = Gauge(options.work / "gauge.csv", self.time)
        self.world, self.train = configuration(options)
        if options.base:
            self.world = finetune.config_of(options.base)
            size = self.world.height, self.world.width
            require(size == SIZE, f"--base: {options.base} has frames of {size}, not of {SIZE}")
        self.videos, self.runs = options.work / "videos", options.work / "runs"
        self.result: dict[str, Any] = {"minutes": options.minutes, "frames": options.frames}
        context = multiprocessing.get_context(START_METHOD)
        self.pool = ProcessPoolExecutor(options.cores, mp_context=context)

    def left(self) -> float:
        return 60 * self.options.minutes - self.time.now()

    def all(self) -> None:
        total = 60 * self.options.minutes
        first, whole = self.options.work / "first", self.options.work / "whole"
        work, options = self.work, self.options
        stages = options.first_stages
        work.start("warm_up", warm_up, self.world, self.train, options.device)
        with self.time.part("record_first"):
            self._wait(self._record("first", FIRST_SHARE, val_fraction=0.1))
        with self.time.part("prepare_first"):
            work.start("prepare_first", prepare_store, self.videos, first, options.cores)
            work.wait("prepare_first")
        rest = self._record("rest", 1 - FIRST_SHARE, val_fraction=0.0)
        minutes = options.stages_share * total / 60
        self.time.start("first_stages")
        for name in stages:
            self._stage(name, first, None, minutes)
        with self.time.part("record_rest"):
            self._wait(rest)
        with self.time.part("prepare_whole"):
            work.start("prepare", prepare_store, self.videos, whole, max(1, options.cores - 2))
            work.wait("prepare")
        work.wait("warm_up", needed=False)
        work.wait(*stages)
        self.time.end("first_stages")
        base = self._merge()
        slack = 0.0 if options.rehearse else COMPILE_SECONDS
        seconds = self.left() - options.evaluation_share * total - slack
        with self.time.part("dynamics"):
            self._stage("dynamics", whole, base, max(0.05, seconds / 60))
            work.wait("dynamics")
        self.pack_world(self.runs / "dynamics")
        with self.time.part("film"):
            film = (self.runs / "dynamics", first, options.out / "film.mp4", options.device)
            work.start("film", write_film, *film)
        with self.time.part("evaluate"):
            folder = options.work / "evaluation"
            work.start(
                "evaluate", evaluate_world, self.runs / "dynamics", first, folder,
                options.device, options.rehearse,
            )  # fmt: skip
            well = work.wait("evaluate", seconds=max(options.patience, self.left()), needed=False)
            self.result["evaluated"] = well
        self.result["film"] = work.wait("film", seconds=options.patience, needed=False)
        if well:
            _tar(options.out / "evaluation.tar.gz", folder)

    def _record(self, name: str, share: float, val_fraction: float) -> list[Future[float]]:
        cores = self.options.cores
        frames = max(500, round(self.options.frames * share / cores))
        return [
            self.pool.submit(
                record_part,
                self.videos / name / f"{number:02d}",
                number + (cores if name == "rest" else 0),
                frames,
                val_fraction,
                number,
            )
            for number in range(cores)
        ]

    def _wait(self, futures: list[Future[float]]) -> None:
        for future in futures:
            while not future.done():
                self.work.check()
                time.sleep(0.1)
            future.result()

    def _stage(self, name: str, store: Path, base: Path | str | None, minutes: float) -> None:
        train = replace(self.train, accelerator=self.options.device)
        folder = self.runs / name
        self.work.start(name, train_stage, name, store, folder, self.world, train, minutes, base)

    def _merge(self) -> Path | str | None:
        """Joins new latent actions to the rest: the base, or the tokenizer's run."""
        from genie import Genie

        if not self.options.first_stages:
            return self.options.base
        world = Genie.from_pretrained(self.options.base or self.runs / "tokenizer", device="cpu")
        world.actions = Genie.from_pretrained(self.runs / "actions", device="cpu").actions
        world.save_pretrained(self.runs / "base")
        return self.runs / "base"

    def pack_world(self, folder: Path) -> None:
        """Writes the world in parts that may travel."""
        path = self.options.work / "world.tar"
        with tarfile.open(path, "w") as tar:
            for name in ("config.json", "model.safetensors", "train.json", "prompts"):
                if (folder / name).exists():
                    tar.add(folder / name, f"world/{name}")
        content = path.read_bytes()
        for number, start in enumerate(range(0, len(content), PART_BYTES)):
            part = self.options.out / f"world.tar.{number}"
            part.write_bytes(content[start : start + PART_BYTES])

    def close(self, error: str | None) -> None:
        """Ends what runs, and writes figures and logs, whatever happened."""
        self.work.close()
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.result |= {
            "error": error,
            "seconds": self.time.parts,
            "gpu": self.gauge.close(self.time.parts),
            "stages": {name: self._pace(name) for name in ("tokenizer", "actions", "dynamics")},
        }
        from _machine import about

        text = json.dumps({**about(), **self.result}, indent=1) + "\n"
        (self.options.out / "throughput.json").write_text(text)
        _tar(self.options.out / "logs.tar.gz", self.work.logs)
        print(text, flush=True)

    def _pace(self, name: str) -> dict[str, float] | None:
        from genie.training.checkpointing import read_checkpoint

        state = read_checkpoint(self.runs / name / "checkpoints" / f"{name}.ckpt")
        if state is None:
            return None
        stage, steps, seconds = getattr(self.train, name), state["step"], state["seconds"]
        frames = steps * stage.batch_size * stage.clip_frames
        return {
            "steps": steps,
            "seconds": round(seconds, 1),
            "steps_per_second": round(steps / max(seconds, 1e-9), 2),
            "frames_per_second": round(frames / max(seconds, 1e-9)),
        }


def _tar(path: Path, folder: Path) -> None:
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, folder.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of the results")
    parser.add_argument("--work", type=Path, help="folder of everything else; OUT-work if left out")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--frames", type=int, default=2_000_000)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rehearse", action="store_true", help="batches of two, nothing compiled")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--cores", type=int, default=cores)
    parser.add_argument(
        "--patience", type=float, default=20.0, help="seconds that evaluation gets at least"
    )
    parser.add_argument(
        "--stages_share", type=float, default=0.24, help="of the time, for the first two models"
    )
    parser.add_argument(
        "--evaluation_share", type=float, default=0.13, help="of the time, for evaluation and film"
    )
    parser.add_argument("--base", help="a world to go on from: a folder or a name")
    parser.add_argument("--new_actions", action="store_true", help="train them anew with --base")
    given = vars(parser.parse_args(arguments))
    given["work"] = given["work"] or given["out"].with_name(f"{given['out'].name}-work")
    options = Options(**given)
    for folder in (options.out, options.work):
        folder.mkdir(parents=True, exist_ok=True)
    run, error = Run(options), None
    try:
        run.all()
    except BaseException as failure:
        error = f"{type(failure).__name__}: {failure}"
        traceback.print_exc()
    run.close(error)
    sys.stdout.flush()
    os._exit(1 if error else 0)  # whatever still records is not waited for


if __name__ == "__main__":
    main()
