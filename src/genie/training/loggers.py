"""Where scalars, images and warnings of a stage go: TensorBoard, CSV files, Weights & Biases."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from genie.core.config import UserError
from genie.core.io import replacing
from genie.presets.schedule import LoggerName

PROJECT = "genie"
"""Project on Weights & Biases."""


def build_loggers(names: Sequence[LoggerName], folder: Path, stage: str, step: int) -> list[Logger]:
    """Returns the loggers of a stage.

    What a killed run logged after its last checkpoint comes again. TensorBoard purges it. A CSV
    file holds the rows from one start to the next, so where two overlap the later one counts.

    Args:
        names: which loggers.
        folder: the run folder; logs go to `logs` in it.
        stage: name of the stage.
        step: steps that the stage has done.

    Raises:
        UserError: a logger is not installed.
    """
    makers = {"tensorboard": _tensorboard, "csv": _csv, "wandb": _wandb}
    return [makers[name](folder / "logs", stage, step) for name in names]


def close_loggers(loggers: Sequence[Logger]) -> None:
    """Ends what is open for one stage only: a run on Weights & Biases."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and rank_zero_only.rank == 0:
            logger.experiment.finish()


def log_scalars(loggers: Sequence[Logger], scalars: Mapping[str, float], step: int) -> None:
    """Writes scalars by name."""
    for logger in loggers:
        logger.log_metrics(dict(scalars), step)


def log_images(loggers: Sequence[Logger], images: Mapping[str, np.ndarray], step: int) -> None:
    """Writes images u8 (H,W,3) by name, where a logger shows images."""
    for logger in loggers:
        for name, image in images.items():
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(name, image, step, dataformats="HWC")
            elif isinstance(logger, WandbLogger):
                logger.log_image(name, [image], step)


def log_warning(loggers: Sequence[Logger], text: str, step: int) -> None:
    """Writes a warning, where a logger shows text."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text("warnings", text, step)
        elif isinstance(logger, WandbLogger):
            logger.log_text("warnings", columns=["step", "warning"], data=[[str(step), text]])


def _tensorboard(logs: Path, stage: str, step: int) -> Logger:
    return TensorBoardLogger(logs, name="", version=stage, purge_step=step)


def _csv(logs: Path, stage: str, step: int) -> Logger:
    version = f"{stage}-from-{step:07}"
    if rank_zero_only.rank == 0:
        shutil.rmtree(logs / "csv" / version, ignore_errors=True)
    return CSVLogger(logs, name="csv", version=version, flush_logs_every_n_steps=1)


def _wandb(logs: Path, stage: str, step: int) -> Logger:
    if find_spec("wandb") is None:
        raise UserError(
            "loggers: wandb is not installed: pip install 'genie-worlds[wandb]', or leave it out"
        )
    logs.mkdir(parents=True, exist_ok=True)
    name = f"{logs.parent.resolve().name}-{stage}"
    run = _wandb_run(logs / f"wandb-{stage}.id", anew=step == 0)
    return WandbLogger(project=PROJECT, name=name, id=run, resume="allow", save_dir=logs)


def _wandb_run(path: Path, anew: bool) -> str:
    """The id of the run on Weights & Biases, which a resumed stage goes on with."""
    if path.exists() and not anew:
        return path.read_text().strip()
    run = secrets.token_hex(4)
    if rank_zero_only.rank == 0:
        with replacing(path) as part:
            part.write_text(run + "\n")
    return run
