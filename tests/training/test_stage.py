import time
from dataclasses import replace

import pytest
import torch
from regression import STAGE, Regression, batches, same_batch

from genie.core.config import UserError
from genie.data.sampler import BatchIndex
from genie.presets import schedule
from genie.presets.schedule import TrainConfig
from genie.training.callbacks import LoggingCallback
from genie.training.checkpointing import read_checkpoint
from genie.training.interrupts import StopRequest
from genie.training.module import StageModule
from genie.training.stage import StageRun, run_stage
from genie.world.genie import Genie


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
    def crash(batch_index):
        if batch_index.step == step:
            raise Crash
        return read(batch_index)

    return crash


def assert_same_weights(one, other):
    other = other.state_dict()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_crashed_stage_ends_as_the_uninterrupted_one(fit, optimizer, accumulate):
    stage = replace(STAGE, optimizer=optimizer, grad_accum_steps=accumulate)
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
    monkeypatch.setattr(LoggingCallback, "after_step", lambda *_: torch.rand(100))
    wasteful, _ = fit(folder="wasteful")
    assert_same_weights(plain, wasteful)


def test_parts_of_a_batch_add_up_to_the_batch(fit):
    runs = {}
    for micro_batches in (1, 4):
        torch.manual_seed(0)
        stage = replace(STAGE, grad_accum_steps=micro_batches)
        runs[micro_batches], end = fit(stage, str(micro_batches), model=Regression(noise=0.0))
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
    x, y = same_batch(BatchIndex(0))
    assert model.loss(x, y)[0] < 2e-2 * y.square().mean()


def test_the_tokenizer_learns_one_batch_by_heart(fit, store, small_world):
    clips = torch.from_numpy(store.windows([0, 9], 4))
    torch.manual_seed(0)
    world = Genie(small_world)
    before = world.tokenizer.loss(clips)[1]["psnr"]
    stage = replace(STAGE, steps=80, ema_decay=0.9, batch_size=2)
    fit(stage, read=lambda batch_index: (clips,), checkpoint_steps=0, model=world.tokenizer)
    assert not world.tokenizer.training
    assert world.tokenizer.loss(clips)[1]["psnr"] > before + 6


def test_a_loss_that_is_no_number_ends_the_stage(fit):
    def poisoned(batch_index):
        x, y = batches(batch_index)
        return x * (float("nan") if batch_index.step == 5 else 1.0), y

    with pytest.raises(UserError, match="lower learning_rate"):
        fit(read=poisoned)


def test_weights_that_are_no_numbers_are_not_saved_between_two_rows_of_scalars(fit, tmp_path):
    def poisoned(batch_index):
        x, y = batches(batch_index)
        return x * (float("nan") if batch_index.step == 5 else 1.0), y

    with pytest.raises(UserError, match="last checkpoint is kept"):
        fit(read=poisoned, log_every=1000, checkpoint_steps=2)
    kept = read_checkpoint(tmp_path / "run" / "checkpoints" / "tokenizer.ckpt")
    assert kept["step"] == 4
    assert all(value.isfinite().all() for value in kept["model"].values())


def test_minutes_are_counted_over_all_runs(fit, monkeypatch):
    """Of a clock that only steps move, by a second each."""
    clock, loss = [0.0], Regression.loss

    def slow(self, *batch, progress):
        clock[0] += 1.0
        return loss(self, *batch, progress=progress)

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(Regression, "loss", slow)
    stage = replace(STAGE, steps=0, minutes=12 / 60)
    with pytest.raises(Crash):
        fit(stage, "run", crashing_at(8), checkpoint_steps=5)
    for _ in range(2):  # the second time nothing is left of the budget
        _, end = fit(stage, "run")
        assert (end["step"], end["seconds"]) == (12, 12.0)
    _, end = fit(replace(stage, minutes=15 / 60), "run")
    assert (end["step"], end["seconds"]) == (15, 15.0)


def test_a_stage_that_does_not_fit_the_devices_says_so(fit):
    def read(batch_index):
        batch_index.clip_starts(torch.arange(9).numpy(), 9)

    with pytest.raises(UserError, match="batch_size"):
        fit(replace(STAGE, grad_accum_steps=2), read=read)


def test_learning_rate_follows_the_schedule(fit, monkeypatch):
    seen = []
    step = StageModule.optimizer_step

    def watching(self, epoch, batch_idx, optimizer, closure=None):
        seen.append((self.step, self.spent))
        step(self, epoch, batch_idx, optimizer, closure)
        seen[-1] += ([group["lr"] for group in optimizer.param_groups],)

    monkeypatch.setattr(StageModule, "optimizer_step", watching)
    fit(replace(STAGE, optimizer="muon", muon_lr_scale=5))
    for number, spent, rates in seen:
        assert spent == number / STAGE.steps
        rate = STAGE.learning_rate * schedule.lr_scale(STAGE, number, spent)
        assert rates == [rate * 5, rate, rate]


def test_progress_is_told_in_plain_lines_without_a_terminal(fit, console, monkeypatch):
    monkeypatch.setattr("genie.core.progress.LINE_SECONDS", 0.0)
    fit()
    assert "tokenizer: 50%" in console.file.getvalue()
    assert "left" in console.file.getvalue()
    assert "loss" in console.file.getvalue()


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
        monkeypatch.setattr(Regression, "phase_boundaries", points, raising=False)
    _, saved = fit(compile=True)
    assert saved["step"] == STAGE.steps
    assert len(late) == (2 if points else 1)
    assert saved["seconds"] < 1000.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_missing_gpu_is_said(fit):
    with pytest.raises(UserError, match="accelerator"):
        fit(accelerator="cuda")


def test_bf16_trains(fit):
    class DiagnosticsCallback(Regression):
        def loss(self, x, y, progress=1.0):
            assert torch.is_autocast_enabled("cpu")
            assert self.out(x).dtype == torch.bfloat16
            return super().loss(x, y, progress)

    model, _ = fit(model=DiagnosticsCallback(), precision="bf16")
    assert model.out.weight.dtype == torch.float32
