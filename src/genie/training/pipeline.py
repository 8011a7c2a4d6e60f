"""From a clip store to a world: tokenizer, latent actions, dynamics, each resumable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from genie.core.config import UserError
from genie.data.store import ClipStore
from genie.presets.schedule import TrainConfig
from genie.training import config, finetune
from genie.training.config import STAGES, RunConfig
from genie.training.distributed import connect, first_alone, others_needed
from genie.training.interrupts import StopRequest
from genie.training.memory import keep_freed_memory
from genie.training.reporting import DiagnosticWarnings
from genie.training.stage import StageRun, read_state, run_stage
from genie.training.stages.base import Stage, StageContext, device_of
from genie.training.stages.table import TABLE
from genie.world.checkpoint import read_weights
from genie.world.choose_prompts import choose_prompts
from genie.world.config import GenieConfig
from genie.world.genie import Genie
from genie.world.prompts import PROMPT_FOLDER, save_prompts


def train(
    data: str | Path | ClipStore,
    out: str | Path,
    *,
    preset: str | None = None,
    world: GenieConfig | None = None,
    train: TrainConfig | None = None,
    stages: Sequence[str] = STAGES,
    minutes: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    base: str | Path | None = None,
    keep_actions: bool | None = None,
    console: Console | None = None,
) -> Path:
    """Trains a world on a clip store; the same call again goes on where it stopped.

    With `base` it does not start afresh but from the weights and the configuration of a world, and
    stages without a budget keep what they have. `num_actions` may be larger than there, and so may
    the tokenizer's codes where its quantizer is "vq"; old rows are kept as they are.

    Each stage writes the world into the run folder when it ends, so after the first one it can
    already be loaded. A finished stage goes on only where its budget has grown and the dynamics
    were not yet trained on what it made.

    Args:
        data: a clip store, or its folder, as `genie prepare` makes it.
        out: the run folder: the world (`config.json`, `model.safetensors`, `prompts/`), the
            resolved settings (`train.json`), `checkpoints/`, and `logs/` for TensorBoard.
        preset: fills in `world` and `train`; "tiny" when left out in a new folder. In a folder
            that was begun before, what it was begun with is filled in.
        world: sizes of the models.
        train: how to train them.
        stages: which stages to run; what they need must have run before.
        minutes: training time of these stages together, over all resumed runs, in place of their
            own budgets and in proportion to them. Computing tokens and actions between the stages,
            and drawing the prompts, is not counted.
        seed: in place of that of `train`.
        device: "auto", "cpu", "cuda" or "mps", in place of the accelerator of `train`.
        base: the world to go on from: its folder, its id on the Hub or its name.
        keep_actions: with `base`, whether its latent actions stay as they are (the default), which
            is right for more of the same game: every action keeps its meaning, and those that are
            added are for what none of the old ones says. False is for another game: the latent
            action model trains on, continuous at first, and places all of its codes anew.
        console: where progress goes; standard error when left out.

    Returns:
        The run folder.

    Raises:
        UserError: something does not fit together, or failed in this or another process; the
            message says what to do.
        Stopped: Ctrl-C or SIGTERM came; everything is saved. A `SystemExit`.
    """
    store = data if isinstance(data, ClipStore) else ClipStore.open(data)
    out, console = Path(out), console or Console(stderr=True)
    chosen = config.resolve(
        out,
        store,
        preset=preset,
        world=world,
        train=train,
        stages=stages,
        minutes=minutes,
        seed=seed,
        device=device,
        base=None if base is None else str(base),
        keep_actions=keep_actions,
    )
    connect(chosen.train)
    first_alone(lambda: _begin(out, chosen, store))
    if device_of(chosen.train).type == "cpu":
        keep_freed_memory()
    with StopRequest(console) as stop, others_needed():
        pipeline = _Pipeline(StageRun(out, chosen.train, stop, console), store, chosen)
        running = [TABLE[name] for name in stages if chosen.trains(name)]
        needed = {need for stage in running for need in stage.reads(chosen.world)}
        for name, stage in TABLE.items():
            if stage in running and not pipeline.must_stay(stage):
                pipeline.train(stage)
                continue
            pipeline.load(stage, needed=name in needed)
            if name in needed and chosen.base is not None and stage.kept(chosen.base):
                pipeline.report(stage)  # a kept model may not fit the new videos
        pipeline.save()
    return out


def _begin(out: Path, chosen: RunConfig, store: ClipStore) -> None:
    """Writes what all processes of a run read: the weights that it starts from, and its record."""
    if chosen.base is not None and config.read(out) is None:
        frames = chosen.train.actions.clip_frames
        start = finetune.starting_world(chosen.base, chosen.world, store, frames)
        start.save_pretrained(out / finetune.START)
    config.write(out, chosen)


class _Pipeline:
    """The world in training, and its stages."""

    def __init__(self, run: StageRun, store: ClipStore, chosen: RunConfig) -> None:
        self.run, self.store, self.base = run, store, chosen.base
        torch.manual_seed(run.train.seed)
        self.world = Genie(chosen.world).eval()
        if self.base is not None:
            self.world.load_state_dict(read_weights(run.folder / finetune.START))
        self.context = StageContext(run, store, self.world, DiagnosticWarnings(run.console))

    def must_stay(self, stage: Stage) -> bool:
        """Whether a later stage was trained on what a stage made, or trains its model as well."""
        config = self.world.config
        after = [other.name for other in TABLE.values() if stage.name in other.reads(config)]
        return stage.joined(self.run.train) or any(
            self.run.checkpoint(name).exists() for name in after
        )

    def train(self, stage: Stage) -> None:
        """Runs a stage to the end of its budget, and saves the world."""
        inputs = stage.inputs(self.context)
        run_stage(
            self.run,
            stage.name,
            stage.model(self.world, self.run.train),
            inputs.read,
            inputs=inputs.fingerprint,
            preview=inputs.preview,
            diagnose=inputs.diagnose,
            warnings=self.context.warnings,
        )
        self.save()
        self.report(stage)
        self.context.warnings = DiagnosticWarnings(self.run.console)

    def load(self, stage: Stage, *, needed: bool) -> None:
        """Takes the weights of a stage that ran before."""
        path = self.run.checkpoint(stage.name)
        state = read_state(path)
        if state is None:
            missing = needed and not stage.joined(self.run.train) and stage.missing(self.base)
            if missing:
                raise UserError(f"{self.run.folder}: {missing}")
            return
        try:
            stage.model(self.world, self.run.train).load_state_dict(state["average"])
        except RuntimeError as error:
            raise UserError(
                f"{path}: does not fit the model ({str(error).splitlines()[-1].strip()}); go on "
                "with the version that wrote it, or train into another folder"
            ) from None

    def report(self, stage: Stage) -> None:
        """Prints how good the model of a stage is, and warns where something is wrong."""
        if rank_zero_only.rank == 0:
            stage.report(self.context)

    def save(self) -> None:
        """Writes the world and some prompts; the processes go on when both are written."""
        first_alone(self._save)

    def _save(self) -> None:
        self.world.cpu().eval().save_pretrained(self.run.folder)
        write_prompts(self.run.folder, self.world, self.store)


def write_prompts(run: Path, world: Genie, store: ClipStore) -> None:
    """Writes some held-out frames that games can start from, unless there are some."""
    if not (run / PROMPT_FOLDER).exists():
        save_prompts(choose_prompts(store, world.tokenizer), run)
