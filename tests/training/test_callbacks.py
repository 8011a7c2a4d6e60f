"""Callbacks are used through a stage: see test_stage; here, when they act."""

from types import SimpleNamespace

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from genie.core.config import UserError
from genie.training.callbacks import CheckpointCallback, DiagnosticsCallback
from genie.training.distributed import silence_lightning
from genie.training.interrupts import StopRequest
from genie.training.reporting import Diagnostic, DiagnosticWarnings


@pytest.fixture
def stop(console):
    return StopRequest(console)


def acting(stop, steps, micro_batches=2, finite_until=100):
    module = SimpleNamespace(step=0, name="stage", finite=lambda: module.step <= finite_until)
    saved = []
    saving = CheckpointCallback(module, lambda: saved.append(module.step), stop, steps, minutes=0.0)
    with silence_lightning():
        trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False)
    for micro_batch in range(10 * micro_batches):
        module.step = (micro_batch + 1) // micro_batches
        saving.on_train_batch_end(trainer)
        if trainer.should_stop:
            break
    return saved


def test_a_checkpoint_is_written_once_per_due_step(stop):
    assert acting(stop, steps=4) == [4, 8]
    assert acting(stop, steps=0) == []


def test_asked_to_stop_it_saves_and_stops(stop):
    stop.signum = 15
    assert acting(stop, steps=4) == [1]


def test_what_is_no_number_is_not_saved(stop):
    with pytest.raises(UserError, match=r"not finite at step 8; the last checkpoint is kept"):
        acting(stop, steps=4, finite_until=7)


class Board(TensorBoardLogger):
    """A TensorBoard in memory."""

    experiment = property(lambda self: self)

    def __init__(self):
        self.scalars, self.texts = [], []

    def log_metrics(self, metrics, step):
        self.scalars.append((step, metrics))

    def add_text(self, name, text, step):
        self.texts.append((step, text))


class Logged(Trainer):
    """A trainer that logs to a board."""

    is_global_zero = True

    def __init__(self, board):
        self._boards = [board]

    @property
    def loggers(self):
        return self._boards


def watched(console, look, *, every=10, steps=100):
    module = SimpleNamespace(step=0, spent=0.0, average=SimpleNamespace(model="the average"))
    board, watching = Board(), DiagnosticsCallback(module, look, DiagnosticWarnings(console), every)
    for step in range(1, steps + 1):
        module.step, module.spent = step, step / steps
        watching.on_train_batch_end(Logged(board))
    return board


def test_a_warning_comes_once_until_all_was_well_again(console, monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 1.0)  # a look takes no time
    ill = {20: True, 30: True, 40: False, 50: True, 60: True}
    step = iter(range(20, 101, 10))

    def look(model):
        assert model == "the average"
        return [Diagnostic("figure", 0.5, "It is ill." if ill.get(next(step)) else "")]

    board = watched(console, look)
    assert [at for at, _ in board.scalars] == list(range(20, 101, 10))  # not in the first fifth
    assert board.scalars[0][1] == {"diagnostics/figure": 0.5}
    assert [at for at, _ in board.texts] == [20, 50]
    assert console.file.getvalue().count("It is ill.") == 2


def test_a_look_that_takes_long_is_followed_by_a_rest(console, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    looks = []

    def look(_):
        looks.append(clock[0])
        clock[0] += 2.0
        return []

    module = SimpleNamespace(step=0, spent=0.5, average=SimpleNamespace(model=None))
    watching = DiagnosticsCallback(module, look, DiagnosticWarnings(console), 1)
    board = Board()
    while clock[0] < 1000:
        module.step += 1
        clock[0] += 0.5
        watching.on_train_batch_end(Logged(board))
    assert len(looks) == 5
    assert 2.0 * len(looks) <= 0.011 * clock[0]


def test_nothing_is_looked_at_where_there_is_no_look(console):
    assert watched(console, None).scalars == []
