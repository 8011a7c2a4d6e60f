import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from genie import schedule
from genie.config import UserError
from genie.schedule import StageConfig, TrainConfig
from genie.training.callbacks import Reporting
from genie.training.checkpointing import read_checkpoint
from genie.training.interrupts import StopRequest
from genie.training.loaders import Place
from genie.training.stage import StageModule, StageRun, _strategy, run_stage, step_seed
from genie.world import Genie


class Regression(nn.Module):
    """Learns the sum of its inputs through a stack of blocks; noise, a buffer, a frozen part."""

    def __init__(self, noise=0.05):
        super().__init__()
        self.noise = noise
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(8, 1)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.register_buffer("seen", torch.zeros(8))

    def loss(self, x, y, progress=1.0):
        if self.training:
            self.seen.lerp_(x.mean(dim=0), 0.1)
        for block in self.blocks:
            x = torch.tanh(block(x) + self.noise * torch.randn_like(x))
        error = (self.out(self.norm(x)) - y).square().mean()
        return error, {"error": error, "progress": torch.tensor(progress)}


def batches(place, clips=8):
    generator = torch.Generator().manual_seed(place.step)
    x = torch.randn(clips, 8, generator=generator)[place.part :: place.parts]
    return x, x.sum(dim=1, keepdim=True)


def same_batch(place):
    return batches(replace(place, step=0))


STAGE = StageConfig(steps=12, batch_size=8, learning_rate=1e-2, warmup_steps=2)


@pytest.fixture
def fit(tmp_path, console):
    """Trains a fresh regression in a folder, and returns it and its checkpoint."""

    def fit(stage=STAGE, folder="run", read=batches, model=None, **train):
        torch.manual_seed(0)
        model = model or Regression()
        settings = {"accelerator": "cpu", "log_every": 4} | train
        config = TrainConfig(tokenizer=stage, **settings)
        with StopRequest(console) as stop:
            run = StageRun(tmp_path / folder, config, stop, console)
            run_stage(run, "tokenizer", model, read)
            return model, read_checkpoint(run.checkpoint("tokenizer"))

    return fit


class Crash(Exception):
    pass


def crashing_at(step, read=batches):
    def crash(place):
        if place.step == step:
            raise Crash
        return read(place)

    return crash


def assert_same_weights(one, other):
    other = other.state_dict()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_crashed_stage_ends_as_the_uninterrupted_one(fit, optimizer, accumulate):
    stage = replace(STAGE, optimizer=optimizer, accumulate=accumulate)
    whole, end = fit(stage, "whole")
    with pytest.raises(Crash):
        fit(stage, "crashed", crashing_at(8), checkpoint_steps=5)
    resumed, resumed_end = fit(stage, "crashed", workers=1)
    assert_same_weights(whole, resumed)
    for name in ("model", "average"):
        for key, value in end[name].items():
            assert torch.equal(value, resumed_end[name][key]), key
    key = {"muon": "momentum_buffer", "adamw": "exp_avg"}[optimizer]
    states = [run["optimizer"]["state"][0][key] for run in (end, resumed_end)]
    assert torch.equal(*states)


def test_a_truncated_checkpoint_costs_only_the_steps_since_the_one_before(fit, tmp_path):
    whole, _ = fit(folder="whole")
    with pytest.raises(Crash):
        fit(folder="cut", read=crashing_at(10), checkpoint_steps=3)
    path = tmp_path / "cut" / "checkpoints" / "tokenizer.ckpt"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.warns(UserWarning, match="going on from"):
        resumed, _ = fit(folder="cut")
    assert_same_weights(whole, resumed)


def test_what_others_do_with_random_numbers_changes_nothing(fit, monkeypatch):
    plain, _ = fit(folder="plain")
    monkeypatch.setattr(Reporting, "stepped", lambda *_: torch.rand(100))
    wasteful, _ = fit(folder="wasteful")
    assert_same_weights(plain, wasteful)
    assert step_seed(0, "a", 1) != step_seed(0, "a", 2) != step_seed(1, "a", 2)


def test_parts_of_a_batch_add_up_to_the_batch(fit):
    runs = {}
    for parts in (1, 4):
        torch.manual_seed(0)
        stage = replace(STAGE, accumulate=parts)
        runs[parts], end = fit(stage, str(parts), model=Regression(noise=0.0))
        assert end["step"] == STAGE.steps
    for one, other in zip(runs[1].parameters(), runs[4].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_frozen_parameters_do_not_move(fit):
    torch.manual_seed(0)
    before = Regression().frozen.weight
    model, _ = fit(replace(STAGE, weight_decay=0.5))
    assert torch.equal(before, model.frozen.weight)


def test_one_batch_is_learned_by_heart(fit):
    stage = replace(STAGE, steps=200, ema_decay=0.9)
    model, _ = fit(stage, read=same_batch, checkpoint_steps=0, model=Regression(noise=0.0))
    x, y = same_batch(Place(0))
    assert model.loss(x, y)[0] < 2e-2 * y.square().mean()


def test_the_tokenizer_learns_one_batch_by_heart(fit, store, small_world):
    clips = torch.from_numpy(store.windows([0, 9], 4))
    torch.manual_seed(0)
    world = Genie(small_world)
    before = world.tokenizer.loss(clips)[1]["psnr"]
    stage = replace(STAGE, steps=80, ema_decay=0.9, batch_size=2)
    fit(stage, read=lambda place: (clips,), checkpoint_steps=0, model=world.tokenizer)
    assert not world.tokenizer.training
    assert world.tokenizer.loss(clips)[1]["psnr"] > before + 6


def test_a_loss_that_is_no_number_ends_the_stage(fit):
    def poisoned(place):
        x, y = batches(place)
        return x * (float("nan") if place.step == 5 else 1.0), y

    with pytest.raises(UserError, match="lower learning_rate"):
        fit(read=poisoned)


def test_weights_that_are_no_numbers_are_not_saved_between_two_rows_of_scalars(fit, tmp_path):
    def poisoned(place):
        x, y = batches(place)
        return x * (float("nan") if place.step == 5 else 1.0), y

    with pytest.raises(UserError, match="last checkpoint is kept"):
        fit(read=poisoned, log_every=1000, checkpoint_steps=2)
    kept = read_checkpoint(tmp_path / "run" / "checkpoints" / "tokenizer.ckpt")
    assert kept["step"] == 4
    assert all(value.isfinite().all() for value in kept["model"].values())


def test_minutes_are_counted_over_all_runs(fit):
    def slow(place):
        time.sleep(0.02)
        return batches(place)

    stage = replace(STAGE, steps=0, minutes=0.6 / 60)
    with pytest.raises(Crash):
        fit(stage, "run", crashing_at(12, slow), checkpoint_steps=10)
    started = time.monotonic()
    _, end = fit(stage, "run", slow)
    assert 0.6 <= end["seconds"] < 5
    assert end["step"] > 10
    steps = end["step"]
    _, end = fit(stage, "run", slow)  # nothing is left of the budget
    assert end["step"] == steps
    _, end = fit(replace(stage, minutes=(end["seconds"] + 0.2) / 60), "run", slow)
    assert end["step"] > steps
    assert time.monotonic() - started < 30


def test_a_stage_that_does_not_fit_the_devices_says_so(fit):
    def read(place):
        place.starts(torch.arange(9).numpy(), 9)

    with pytest.raises(UserError, match="batch_size"):
        fit(replace(STAGE, accumulate=2), read=read)


def test_learning_rate_follows_the_schedule(fit, monkeypatch):
    seen = []
    step = StageModule.optimizer_step

    def watching(self, epoch, batch_idx, optimizer, closure=None):
        seen.append((self.step, self.spent))
        step(self, epoch, batch_idx, optimizer, closure)
        seen[-1] += ([group["lr"] for group in optimizer.param_groups],)

    monkeypatch.setattr(StageModule, "optimizer_step", watching)
    fit(replace(STAGE, optimizer="muon", muon_scale=5))
    for number, spent, rates in seen:
        assert spent == number / STAGE.steps
        rate = STAGE.learning_rate * schedule.lr_scale(STAGE, number, spent)
        assert rates == [rate * 5, rate, rate]


def test_progress_is_told_in_plain_lines_without_a_terminal(fit, console, monkeypatch):
    monkeypatch.setattr("genie.progress.LINE_SECONDS", 0.0)
    fit()
    assert "tokenizer: 50%" in console.file.getvalue()
    assert "left" in console.file.getvalue()
    assert "loss" in console.file.getvalue()


LOSSES = {"tokenizer": [0.5, 0.6, 0.7], "actions": [0.85, 0.85, 0.0, 0.0], "dynamics": [0.5, 0.6]}


def inputs_of(name: str, device: str = "cpu") -> tuple[torch.Tensor, ...]:
    """Two clips of six frames for the model of a stage."""
    if name != "dynamics":
        shape = (2, 6, 16, 16, 3)
        return (torch.randint(0, 256, shape, dtype=torch.uint8, device=device),)
    tokens = torch.randint(0, 32, (2, 6, 4), device=device)
    return tokens, torch.randint(0, 4, (2, 5), device=device)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("name", LOSSES)
def test_after_the_first_step_neither_loss_nor_optimizer_waits_for_the_device(
    small_world, name, optimizer, monkeypatch
):
    """Tensors of the device "meta" have no values, so that whatever asks for one fails."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())
    model = getattr(Genie(small_world), name).train()
    model.loss(*inputs_of(name), progress=0.95)
    module = StageModule(model.to("meta"), replace(STAGE, optimizer=optimizer))
    stepper = module.configure_optimizers()
    for progress in LOSSES[name]:
        module.spent = progress
        module.training_step(inputs_of(name, "meta"), 0).backward()
        stepper.step()
    assert module.logs["loss"][0].is_meta


def test_a_loss_that_changes_now_and_then_is_told_only_when(small_world):
    """A compiler would make another graph for each number."""
    world, told = Genie(small_world), []
    module = StageModule(world.actions, STAGE)
    module._loss = lambda *batch, progress: (told.append(progress) or torch.zeros(()), {})
    for module.spent in (0.0, 0.3, 0.84, 0.85, 0.99):
        module.training_step(inputs_of("actions"), 0)
    assert world.actions.turning_points == (0.0, 0.85)
    assert told == [0.0, 0.0, 0.0, 0.85, 0.85]


ONE_GRAPH = """
import sys, copy, torch
from genie import Genie
from test_stage import LOSSES, inputs_of

torch.manual_seed(0)
world = Genie.from_pretrained(sys.argv[1], device="cpu").train()
for name, progress in LOSSES.items():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = getattr(world, name)
    model.loss(*inputs_of(name), progress=0.95)  # places codes
    compiled = torch.compile(model.loss, backend="eager", fullgraph=True)
    for part in progress:
        batch, twin = inputs_of(name), copy.deepcopy(model)
        torch.manual_seed(1)
        plain, _ = twin.loss(*batch, progress=part)
        torch.manual_seed(1)
        torch.testing.assert_close(compiled(*batch, progress=part)[0], plain)
        for one, other in zip(model.buffers(), twin.buffers()):
            torch.testing.assert_close(one, other)
    print(torch._dynamo.utils.counters["stats"]["unique_graphs"])

twin, model = (Genie.from_pretrained(sys.argv[1], device="cpu").actions.train() for _ in range(2))
compiled, batch = torch.compile(model.loss, backend="eager"), inputs_of("actions")
for progress in (0.0, 0.0, 0.85, 0.85):  # the third places codes
    losses = []
    for loss in (twin.loss, compiled):
        torch.manual_seed(1)
        losses.append(loss(*batch, progress=progress)[0])
    torch.testing.assert_close(*losses)
torch.testing.assert_close(model.quantizer.codebook, twin.quantizer.codebook)
assert model.quantizer.known_placed
"""


def test_a_loss_is_one_graph_for_the_compiler(small_world, tmp_path):
    Genie(small_world).save_pretrained(tmp_path)
    command = [sys.executable, "-W", "error::UserWarning", "-c", ONE_GRAPH, tmp_path]
    run = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["1", "2", "1"], "actions train in two ways"


@pytest.mark.parametrize("points", [None, (0.0, 0.5)], ids=["one graph", "two graphs"])
def test_compiling_is_no_part_of_the_budget(fit, monkeypatch, points):
    late, real = [], time.monotonic

    def slow(loss):
        graphs = set()

        def compiled(*batch, progress):
            graph = progress if points else 0.0
            late.extend([1000.0] if graph not in graphs else [])
            graphs.add(graph)
            return loss(*batch, progress=progress)

        return compiled

    monkeypatch.setattr(torch, "compile", slow)
    monkeypatch.setattr(time, "monotonic", lambda: real() + sum(late))
    if points:
        monkeypatch.setattr(Regression, "turning_points", points, raising=False)
    _, saved = fit(compile=True)
    assert saved["step"] == STAGE.steps
    assert len(late) == (2 if points else 1)
    assert saved["seconds"] < 1000.0


def test_a_resumed_run_has_no_other_first_step_that_is_not_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda loss: ("compiled", loss))
    fresh = StageModule(Regression(), STAGE, compile=True)
    assert fresh._loss == fresh.model.loss
    kept = {"step": 3, "seconds": 1.0, "model": fresh.model.state_dict()}
    resumed = StageModule(Regression(), STAGE, compile=True, state=kept)
    assert resumed._loss == ("compiled", resumed.model.loss)
    plain = StageModule(Regression(), STAGE, state=kept)
    assert plain._loss == plain.model.loss


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_missing_gpu_is_said(fit):
    with pytest.raises(UserError, match="accelerator"):
        fit(accelerator="cuda")


def test_bf16_trains(fit):
    class Watching(Regression):
        def loss(self, x, y, progress=1.0):
            assert torch.is_autocast_enabled("cpu")
            assert self.out(x).dtype == torch.bfloat16
            return super().loss(x, y, progress)

    model, _ = fit(model=Watching(), precision="bf16")
    assert model.out.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("accelerator", "devices", "several"),
    [("cpu", "auto", False), ("cpu", 1, False), ("cpu", 2, True), ("cuda", 8, True)],
)
def test_weights_may_lack_gradients_on_several_devices(accelerator, devices, several):
    train = TrainConfig(accelerator=accelerator, devices=devices)
    assert ("find_unused" in _strategy(train)) is several
