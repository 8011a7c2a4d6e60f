"""From a clip store to a world: tokenizer, latent actions, dynamics, each resumable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int, UInt8
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from torch import Tensor, nn

from genie.core.config import UserError
from genie.core.progress import Progress, say
from genie.data.store import ClipStore
from genie.models.latent_actions import LatentActionModel
from genie.models.layers.pixels import downsample
from genie.models.tokenizer import VideoTokenizer
from genie.presets.schedule import TrainConfig
from genie.training import config, diagnostics, finetune, previews
from genie.training.batches import FrameBatches, TokenBatches
from genie.training.checkpointing import read_checkpoint
from genie.training.collapse import report_actions, report_dynamics, report_tokenizer
from genie.training.config import STAGES, RunConfig
from genie.training.interrupts import StopRequest
from genie.training.joint import JointModel
from genie.training.memory import keep_freed_memory
from genie.training.reporting import Diagnostic, DiagnosticWarnings
from genie.training.stage import StageRun, run_stage
from genie.training.token_cache import fingerprint, precompute_actions, precompute_tokens
from genie.world import inputs
from genie.world.checkpoint import read_weights
from genie.world.config import GenieConfig
from genie.world.genie import Genie
from genie.world.prompts import PROMPT_FOLDER, save_prompts

PROMPTS, PROMPT_CANDIDATES = 8, 256
ROLLOUT_FRAMES = 9
DIAGNOSTIC_CLIPS = 32
DRIFT_CLIPS = 4
DRIFT_FRAMES = 17
SHORTEST_DRIFT = 5


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
            is right for more of the same game: every button keeps its meaning, and those that are
            added are for what none of the old ones says. False is for another game: the latent
            action model trains on, continuous at first, and places all of its codes anew.
        console: where progress goes; standard error when left out.

    Returns:
        The run folder.

    Raises:
        UserError: something does not fit together; the message says what to do.
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
    if chosen.base is not None and rank_zero_only.rank == 0 and config.read(out) is None:
        frames = chosen.train.actions.clip_frames
        start = finetune.starting_world(chosen.base, chosen.world, store, frames)
        start.save_pretrained(out / finetune.START)
    config.write(out, chosen)
    if device_of(chosen.train).type == "cpu":
        keep_freed_memory()
    with StopRequest(console) as stop:
        pipeline = _Pipeline(StageRun(out, chosen.train, stop, console), store, chosen)
        needed = "dynamics" in stages and chosen.trains("dynamics")
        for name in STAGES:
            if name in stages and chosen.trains(name) and not pipeline.must_stay(name):
                pipeline.train(name)
            else:
                pipeline.load(name, needed=needed)
                if name == "actions" and chosen.base is not None and needed:
                    pipeline.report(name)  # kept ones may not fit the new videos
        pipeline.save()
    return out


class _Pipeline:
    """The world in training, and what its stages are given."""

    def __init__(self, run: StageRun, store: ClipStore, chosen: RunConfig) -> None:
        self.run, self.store, self.joint = run, store, run.train.joint
        self.base, self.warnings = chosen.base, DiagnosticWarnings(run.console)
        torch.manual_seed(run.train.seed)
        self.world = Genie(chosen.world).eval()
        if self.base is not None:
            self.world.load_state_dict(read_weights(run.folder / finetune.START))
        self.told_of_split = False

    def must_stay(self, name: str) -> bool:
        """Whether dynamics were trained on what a stage made, or there is no such stage."""
        if name == "dynamics":
            return False
        return (name == "actions" and self.joint) or self.run.checkpoint("dynamics").exists()

    def train(self, name: str) -> None:
        """Runs a stage to the end of its budget, and saves the world."""
        stage = {"tokenizer": self._frames, "actions": self._frames, "dynamics": self._dynamics}
        stage[name](name)
        self.save()
        self.report(name)
        self.warnings = DiagnosticWarnings(self.run.console)

    def load(self, name: str, *, needed: bool) -> None:
        """Takes the weights of a stage that ran before."""
        state = read_checkpoint(self.run.checkpoint(name))
        if state is not None:
            try:
                self._model(name).load_state_dict(state["average"])
            except RuntimeError as error:
                raise UserError(
                    f"{self.run.checkpoint(name)}: does not fit the model "
                    f"({str(error).splitlines()[-1].strip()}); go on with the version that wrote "
                    "it, or train into another folder"
                ) from None
        elif not needed or (name == "actions" and self.joint):
            return
        elif name == "actions" and self.base is not None and not self.base.keep_actions:
            raise UserError(
                "keep_actions: false places the codes of latent actions anew, but their stage has "
                "not run; give it steps or minutes, or keep the actions"
            )
        elif self.base is None:
            raise UserError(
                f"{self.run.folder}: the stage {name!r} has not run here and the dynamics need it; "
                "run it first, or all stages at once"
            )

    def save(self) -> None:
        """Writes the world and some prompts."""
        if rank_zero_only.rank == 0:
            self.world.cpu().eval().save_pretrained(self.run.folder)
            write_prompts(self.run.folder, self.store)

    def _model(self, name: str) -> nn.Module:
        if name == "dynamics" and self.joint:
            return JointModel(self.world.actions, self.world.dynamics)
        return getattr(self.world, name)

    def _frames(self, name: str) -> None:
        stage = getattr(self.run.train, name)
        changes = self.run.train.augmentation
        read = FrameBatches(self.store, stage.clip_frames, stage.batch_size, changes)
        shown, split = self._shown(stage.clip_frames)
        preview = {"tokenizer": previews.preview_tokenizer, "actions": previews.preview_actions}[
            name
        ]
        clips = previews.held_out_clips(self.store, stage.clip_frames, DIAGNOSTIC_CLIPS)
        diagnose = {"tokenizer": diagnose_tokenizer, "actions": diagnose_actions}[name]
        run_stage(
            self.run,
            name,
            self._model(name),
            read,
            preview=lambda model: preview(model, shown, split),
            diagnose=lambda model: diagnose(model, clips),
            warnings=self.warnings,
        )

    def _dynamics(self, name: str) -> None:
        stage, world = self.run.train.dynamics, self.world
        inputs = (
            fingerprint(world.tokenizer)
            if self.joint
            else fingerprint(world.tokenizer, world.actions)
        )
        world.to(device_of(self.run.train))
        whole, fresh = self._precompute(
            "tokens",
            lambda told: precompute_tokens(self.store, world.tokenizer, stage.clip_frames, told),
        )
        actions = None
        if not self.joint:
            actions = self._precompute(
                "actions", lambda told: precompute_actions(self.store, world.actions, told)
            )
        read = TokenBatches(
            self.store,
            stage.clip_frames,
            stage.batch_size,
            whole,
            fresh,
            actions,
            prompt_fraction=self.run.train.prompt_encoding_fraction,
            with_frames=self.joint,
        )
        shown, split = self._shown(min(ROLLOUT_FRAMES, stage.clip_frames))

        def preview(average: nn.Module) -> previews.PreviewImages:
            return previews.preview_dynamics(world, average, shown, split)

        run_stage(
            self.run,
            name,
            self._model(name),
            read,
            inputs=inputs,
            preview=preview,
            diagnose=lambda average: diagnose_dynamics(
                world, average, self.store, stage.clip_frames
            ),
            warnings=self.warnings,
        )

    def _shown(self, frames: int) -> tuple[Tensor, str]:
        split = previews.preview_split(self.store, frames)
        if split != "val" and not self.told_of_split and rank_zero_only.rank == 0:
            self.told_of_split = True
            say(
                self.run.console,
                f"no held-out video has {frames} frames: pictures and figures are of videos that "
                "are trained on, under train/ in the logs",
            )
        return previews.held_out_clips(self.store, frames), split

    def _precompute(self, what: str, compute: Callable[[Callable[[float], None]], Any]) -> Any:
        show = rank_zero_only.rank == 0
        with Progress(f"computing {what}", console=self.run.console, show=show) as progress:

            def told(share: float) -> None:
                progress.update(share)
                self.run.stop.stop(
                    f"stopped while computing {what}; the same command goes on from here"
                )

            return compute(told)

    def report(self, name: str) -> None:
        """Says how good the model of a stage is, loudly where something is wrong."""
        if rank_zero_only.rank != 0:
            return
        frames = getattr(self.run.train, name).clip_frames
        clips = previews.held_out_clips(self.store, frames, DIAGNOSTIC_CLIPS)
        if name == "tokenizer":
            report_tokenizer(self.world.tokenizer, clips, self.warnings)
        if name == "actions" or (name == "dynamics" and self.joint):
            report_actions(self.world.actions, clips, self.warnings)
        if name == "dynamics":
            world = self.world.to(device_of(self.run.train))
            seen = diagnose_dynamics(world, world.dynamics, self.store, frames)
            report_dynamics(seen, self.warnings)
            world.cpu()


@torch.no_grad()
def diagnose_tokenizer(tokenizer: nn.Module, clips: Tensor) -> list[Diagnostic]:
    """Looks at how a tokenizer does on clips u8 (B,T,H,W,3)."""
    assert isinstance(tokenizer, VideoTokenizer)
    return [diagnostics.codebook_usage(tokenizer, clips.to(tokenizer.position.device))]


@torch.no_grad()
def diagnose_actions(actions: nn.Module, clips: Tensor) -> list[Diagnostic]:
    """Looks at how latent actions do on clips u8 (B,T,H,W,3)."""
    assert isinstance(actions, LatentActionModel)
    clips = clips.to(actions.mean.device)
    seen = [diagnostics.latent_gain(actions, clips)]
    if actions.quantizer.initialized:
        seen.append(diagnostics.action_perplexity(actions, clips))
    return seen


@torch.no_grad()
def diagnose_dynamics(
    world: Genie, dynamics: nn.Module, store: ClipStore, frames: int
) -> list[Diagnostic]:
    """Looks at how dynamics, or `JointModel` ones, play in a world.

    Args:
        world: the other parts.
        dynamics: in evaluation mode.
        store: the videos.
        frames: of the clips that are predicted; rollouts are longer, where the videos are.
    """
    preview = previews.replace_dynamics(world, dynamics)
    clips = previews.held_out_clips(store, frames, DIAGNOSTIC_CLIPS).to(preview.device)
    tokens = diagnostics.in_parts(preview.tokenizer.encode, clips)
    actions = diagnostics.in_parts(preview.actions.infer, clips)
    seen = [diagnostics.action_effect(preview.dynamics, tokens, actions)]
    longest = max(episode.length for episode in store.episodes_in_split("train"))
    frames = min(DRIFT_FRAMES, longest)
    if frames >= SHORTEST_DRIFT:
        clips = previews.spread_clips(store, frames, DRIFT_CLIPS, "train").to(preview.device)
        seen += diagnostics.rollout_drift(preview, clips)
    return seen


def write_prompts(run: Path, store: ClipStore) -> None:
    """Writes some held-out frames that games can start from, unless there are some."""
    if not (run / PROMPT_FOLDER).exists():
        frames = previews.held_out_clips(store, 1, PROMPT_CANDIDATES)[:, 0]
        save_prompts(frames[most_distinct(frames, PROMPTS)].numpy(), run)


def most_distinct(frames: UInt8[Tensor, "n h w 3"], count: int) -> Int[Tensor, " m"]:
    """Chooses frames that differ, so that prompts show what a game has to show.

    Each next one is the frame that is farthest from its nearest chosen one, seen at a quarter of
    the resolution; the first is the one farthest from the mean (Gonzalez 1985, k-centre).

    Returns:
        The indices of at most `count` frames, in the order of choice.
    """
    pixels = downsample(frames[None], 4)[0].flatten(1).float()
    chosen = [int((pixels - pixels.mean(dim=0)).square().sum(dim=1).argmax())]
    nearest = pixels.new_full((len(pixels),), torch.inf)
    while len(chosen) < min(count, len(frames)):
        nearest = nearest.minimum((pixels - pixels[chosen[-1]]).square().sum(dim=1))
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen)


def device_of(train: TrainConfig) -> torch.device:
    """Returns where a schedule computes tokens and actions between its stages."""
    return inputs.device_of(None if train.accelerator == "auto" else train.accelerator)
