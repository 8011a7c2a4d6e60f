from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from losses import LOSSES, inputs_of
from regression import STAGE, Regression

from forked import output_of
from genie.training.module import StageModule, step_seed
from genie.world.genie import Genie


def test_the_random_numbers_of_a_step_are_its_own():
    seeds = [step_seed(0, "a", 1), step_seed(0, "a", 2), step_seed(1, "a", 2)]
    seeds += [step_seed(0, "b", 1), step_seed(0, "a", 1, micro_batch=1)]
    assert len(set(seeds)) == len(seeds)


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
    assert world.actions.phase_boundaries == (0.0, 0.85)
    assert told == [0.0, 0.0, 0.0, 0.85, 0.85]


ONE_GRAPH = """
import sys, copy, torch, warnings
warnings.simplefilter("error", UserWarning)
from genie import Genie
from genie.models.tokenizers.registry import BACKBONES
from losses import LOSSES, inputs_of

torch.manual_seed(0)
world = Genie.from_pretrained(sys.argv[1], device="cpu").train()
for name, progress in LOSSES.items():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = getattr(world, name)
    model.loss(*inputs_of(name), progress=0.95)  # places codes
    compiled = torch.compile(model.loss, backend="eager", fullgraph=True)
    for spent in progress:
        batch, twin = inputs_of(name), copy.deepcopy(model)
        torch.manual_seed(1)
        plain, _ = twin.loss(*batch, progress=spent)
        torch.manual_seed(1)
        torch.testing.assert_close(compiled(*batch, progress=spent)[0], plain)
        for one, other in zip(model.buffers(), twin.buffers()):
            torch.testing.assert_close(one, other)
    print(torch._dynamo.utils.counters["stats"]["unique_graphs"])

for config in BACKBONES.values():
    torch._dynamo.reset()
    model, batch = config().build((16, 16)).train(), inputs_of("tokenizer")
    model.loss(*batch)  # places codes
    twin = copy.deepcopy(model)
    compiled = torch.compile(model.loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*batch)[0], twin.loss(*batch)[0])

twin, model = (Genie.from_pretrained(sys.argv[1], device="cpu").actions.train() for _ in range(2))
compiled, batch = torch.compile(model.loss, backend="eager"), inputs_of("actions")
for progress in (0.0, 0.0, 0.85, 0.85):  # the third places codes
    losses = []
    for loss in (twin.loss, compiled):
        torch.manual_seed(1)
        losses.append(loss(*batch, progress=progress)[0])
    torch.testing.assert_close(*losses)
torch.testing.assert_close(model.quantizer.codebook, twin.quantizer.codebook)
assert model.quantizer.known_initialized
"""


@pytest.mark.long
def test_a_loss_is_one_graph_for_the_compiler(small_world, tmp_path):
    encoder = replace(small_world.tokenizer.encoder, layers=1)
    tokenizer = replace(small_world.tokenizer, encoder=encoder)
    Genie(replace(small_world, tokenizer=tokenizer)).save_pretrained(tmp_path)
    counts = output_of(ONE_GRAPH, tmp_path).split()
    assert counts == ["1", "2", "1"], "actions train in two ways"


def test_a_resumed_run_has_no_other_first_step_that_is_not_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda loss: ("compiled", loss))
    fresh = StageModule(Regression(), STAGE, compile=True)
    assert fresh._loss == fresh.model.loss
    kept = {"step": 3, "seconds": 1.0, "model": fresh.model.state_dict()}
    resumed = StageModule(Regression(), STAGE, compile=True, state=kept)
    assert resumed._loss == ("compiled", resumed.model.loss)
    plain = StageModule(Regression(), STAGE, state=kept)
    assert plain._loss == plain.model.loss


def test_compiling_anew_at_a_turning_point_is_no_part_of_the_budget(monkeypatch):
    module = StageModule(Regression(), STAGE, compile=True)
    module.model.phase_boundaries = (0.0, 0.5)
    module._compiled = True
    module._progress()
    counted = []
    for module.spent in (0.2, 0.6, 0.7, 0.8):
        module._compiling = 0 if not counted else module._compiling
        module._progress()
        counted.append(module._compiling)
        module._compiling = max(0, module._compiling - 1)
    assert counted == [0, 2, 1, 0], "placed codes change the graph of the step after"


@pytest.mark.parametrize(("minutes", "steps_taken"), [(1.0, 2), (0.0, 1)])
def test_a_slow_step_does_not_end_a_stage_before_its_last_phase(minutes, steps_taken):
    """Actions once ended without codes where a step took longer than the minutes left."""
    stage = replace(STAGE, minutes=minutes, steps=1 if not minutes else 0)
    module = StageModule(Regression(), stage)
    module.model.phase_boundaries = (0.0, 0.85)
    module.seconds, taken = 100.0, []
    while module.spent < 1:
        taken.append(module._progress())
        module.step += 1
        module.spent = module._share_spent()
    assert taken == [0.0, 0.85][:steps_taken]


def test_a_run_stopped_before_its_last_phase_goes_on_with_it():
    state = {"step": 7, "seconds": 100.0, "spent": 0.85, "model": Regression().state_dict()}
    stage = replace(STAGE, minutes=1.0, steps=0)
    assert StageModule(Regression(), stage, state=state).spent == 0.85
    assert StageModule(Regression(), stage, state=state | {"spent": 1.0}).spent == 1.0
    longer = replace(stage, minutes=10.0)
    assert StageModule(Regression(), longer, state=state | {"spent": 1.0}).spent < 0.2
