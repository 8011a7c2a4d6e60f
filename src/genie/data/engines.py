"""Shards of a preparation on a Ray cluster: the same shards and the same merge as without it.

What travels is the place of the videos and the number of a shard. No frame goes through Ray.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from genie.core.config import UserError, require
from genie.core.progress import Progress
from genie.data.merge import merge
from genie.data.prepare import PrepareReport, prepare

Engine = Literal["local", "ray"]
SHARDS_PER_CORE = 4
ATTEMPTS = 5
"""Of a shard whose worker died."""


@dataclass(frozen=True)
class _Shard:
    number: int
    attempt: int = 1


def prepare_on_ray(
    source: str | Path,
    out: str | Path,
    *,
    shards: int | None = None,
    progress: bool = True,
    **options: Any,
) -> PrepareReport:
    """Prepares a clip store on a Ray cluster.

    All machines need the videos, the folder of `out` and the file of `quality` at the same paths;
    videos may also lie at an address.
    The cluster is that of `RAY_ADDRESS`; without one, Ray is started on this machine. A shard whose
    worker died is begun again where it stopped. When this process is killed, the same command goes
    on.

    Args:
        source: folder of videos, or an address.
        out: folder to make.
        shards: number of shares; four per core of the cluster when left out.
        progress: show a progress bar.
        options: further arguments of `prepare`, but for `shard` and `workers`.

    Raises:
        UserError: as of `prepare`; or Ray is not installed, or a shard's worker died five times.
    """
    require(not {"shard", "workers"} & options.keys(), "engine: ray chooses shard and workers")
    out = Path(out).absolute()
    place = str(source) if "://" in str(source) else str(Path(source).absolute())
    if options.get("quality") is not None:
        options["quality"] = Path(options["quality"]).absolute()
    if (out / "store.json").exists():
        return prepare(place, out, progress=progress, **options)
    with _cluster() as ray:
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        folder, count = _folder_of_parts(out, shards or SHARDS_PER_CORE * cores)
        job = _Job(ray, place, folder, count, options)
        with Progress("preparing on Ray", count, unit="shards", show=progress) as bar:
            for done, _ in enumerate(job.run(2 * cores), start=1):
                bar.update(done)
    report = merge(out, [job.part(number) for number in range(1, count + 1)], progress=progress)
    shutil.rmtree(folder)
    return report


@contextmanager
def _cluster() -> Iterator[Any]:
    try:
        import ray
    except ImportError:
        raise UserError('Ray is not installed: pip install "genie-worlds[cluster]"') from None
    started = not ray.is_initialized()
    if started:
        # A Ray of this machine alone is reached by nobody else.
        alone = {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        ray.init(log_to_driver=False, **({} if os.environ.get("RAY_ADDRESS") else alone))
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()


def _folder_of_parts(out: Path, shards: int) -> tuple[Path, int]:
    """Returns where parts lie, and how many there are; a run that was begun keeps its number."""
    require(shards >= 1, f"shards: must be 1 or more, got {shards}")
    begun = sorted(out.parent.glob(f".{glob.escape(out.name)}.parts-*"))
    if begun:
        return begun[0], int(begun[0].name.rpartition("-")[2])
    return out.with_name(f".{out.name}.parts-{shards}"), shards


class _Job:
    """The shards of one preparation."""

    def __init__(
        self, ray: Any, place: str, folder: Path, count: int, options: dict[str, Any]
    ) -> None:
        self._ray, self._place, self._folder, self._count = ray, place, folder, count
        self._options = options
        # Ray itself would begin a shard again without a process of its own for each video.
        self._task = ray.remote(max_retries=0, num_cpus=1)(prepare)

    def part(self, number: int) -> Path:
        """Folder of a part."""
        return self._folder / str(number)

    def run(self, most: int) -> Iterator[int]:
        """Yields the number of each shard when it is done; so many are begun at a time.

        Raises:
            UserError: of a shard, or its worker died too often.
        """
        waiting = [_Shard(number) for number in range(1, self._count + 1)]
        running: dict[Any, _Shard] = {}
        while waiting or running:
            while waiting and len(running) < most:
                shard = waiting.pop(0)
                running[self._begin(shard)] = shard
            (ended, *_), _ = self._ray.wait(list(running), num_returns=1)
            shard = running.pop(ended)
            if self._is_done(ended, shard):
                yield shard.number
            else:
                waiting.insert(0, replace(shard, attempt=shard.attempt + 1))

    def _begin(self, shard: _Shard) -> Any:
        # Where a worker died, a process of its own for each video tells which one it was.
        workers = 0 if shard.attempt == 1 else 2
        share = f"{shard.number}/{self._count}"
        given = {"shard": share, "workers": workers, "progress": False, **self._options}
        return self._task.remote(self._place, self.part(shard.number), **given)

    def _is_done(self, ended: Any, shard: _Shard) -> bool:
        errors = self._ray.exceptions
        try:
            self._ray.get(ended)
        except errors.RayTaskError as error:
            raise error.cause from None
        except errors.RayError as error:  # the worker died, or its machine
            if shard.attempt == ATTEMPTS:
                raise UserError(
                    f"shard {shard.number} of {self._count}: its worker died {ATTEMPTS} times "
                    f"({str(error).splitlines()[0]}); look at the memory of the machines, and run "
                    "the same command again"
                ) from None
            return False
        return True
