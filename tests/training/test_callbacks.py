"""Callbacks are used through a stage: see test_stage; here, when they act."""

from types import SimpleNamespace

import pytest
from lightning.pytorch import Trainer

from genie.config import UserError
from genie.training.callbacks import Saving
from genie.training.interrupts import StopRequest
from genie.training.stage import quiet_lightning


@pytest.fixture
def stop(console):
    return StopRequest(console)


def acting(stop, steps, parts=2, finite_until=100):
    module = SimpleNamespace(step=0, name="stage", finite=lambda: module.step <= finite_until)
    saved = []
    saving = Saving(module, lambda: saved.append(module.step), stop, steps, minutes=0.0)
    with quiet_lightning():
        trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False)
    for part in range(10 * parts):
        module.step = (part + 1) // parts
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
