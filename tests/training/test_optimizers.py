import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from genie.presets import registry
from genie.presets.schedule import StageConfig
from genie.training.optimizers import (
    AveragedModel,
    MuonAdamW,
    build_optimizer,
    parameter_groups,
    set_learning_rate,
)
from genie.world.genie import Genie

STAGE = StageConfig(steps=1, learning_rate=0.01, weight_decay=0.1)


@pytest.fixture(scope="module")
def world():
    return Genie(registry.get("tiny").world)


def names(model, parameters):
    found = {id(parameter) for parameter in parameters}
    return {name for name, parameter in model.named_parameters() if id(parameter) in found}


@pytest.mark.parametrize("part", ["tokenizer", "actions", "dynamics"])
def test_only_weights_of_linear_and_convolution_layers_decay(world, part):
    model = getattr(world, part)
    optimizer = build_optimizer(model, STAGE)
    decaying = [p for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]]
    spared = names(
        model, [p for g in optimizer.param_groups if not g["weight_decay"] for p in g["params"]]
    )
    assert names(model, decaying) | spared == {name for name, _ in model.named_parameters()}
    assert all(parameter.ndim >= 2 for parameter in decaying)
    spared_words = ("norm", "bias", "position", "level", "codebook")
    for word in (*spared_words, "token.weight", "action.weight", "previous.weight", "drawn.weight"):
        assert not any(word in name.replace("tokenizer", "") for name in names(model, decaying))


def test_muon_takes_the_hidden_matrices(world):
    hidden = names(world.dynamics, parameter_groups(world.dynamics)["hidden"])
    assert "transformer.blocks.0.space.qkv.weight" in hidden
    assert "transformer.blocks.0.ffn.2.weight" in hidden
    assert "head.weight" not in hidden
    assert "token.weight" not in hidden


def test_frozen_parameters_are_left_out():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    left = [p for group in parameter_groups(model).values() for p in group]
    assert {id(p) for p in left} == {id(p) for p in model[1].parameters()}


def after_step(model, optimizer, steps=3):
    for seed in range(steps):
        torch.manual_seed(seed)
        optimizer.zero_grad()
        sum(layer(torch.randn(4, 6)).square().sum() for layer in model[0]).backward()
        optimizer.step()
    return model


def small():
    torch.manual_seed(0)
    return nn.ModuleList([nn.ModuleList(nn.Linear(6, 6) for _ in range(2))])


def test_muon_and_adamw_do_what_they_do_alone():
    stage = StageConfig(steps=1, learning_rate=0.01, optimizer="muon", weight_decay=0.1)
    together, alone = small(), small()
    after_step(together, build_optimizer(together, stage))
    groups = parameter_groups(alone)
    muon = torch.optim.Muon(
        groups["hidden"], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(groups["rest"], lr=0.01, betas=(0.9, 0.95), weight_decay=0.0)
    for seed in range(3):
        torch.manual_seed(seed)
        alone.zero_grad()
        sum(layer(torch.randn(4, 6)).square().sum() for layer in alone[0]).backward()
        muon.step(), adamw.step()
    for one, other in zip(together.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other)


def test_muon_has_a_learning_rate_and_adamw_a_memory_of_their_own():
    stage = StageConfig(
        steps=1, learning_rate=0.01, optimizer="muon", weight_decay=0, muon_lr_scale=5, beta2=0.999
    )
    fast = small()
    optimizer = build_optimizer(fast, stage)
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert all(group["betas"] == (0.9, 0.999) for group in optimizer.param_groups[1:])
    plain_adamw = build_optimizer(small(), replace(stage, optimizer="adamw"))
    assert {(g["lr"], g["betas"]) for g in plain_adamw.param_groups} == {(0.01, (0.9, 0.999))}
    set_learning_rate(optimizer, 0.002)
    before, plain = copy.deepcopy(fast), copy.deepcopy(fast)
    twin = build_optimizer(plain, replace(stage, muon_lr_scale=1))
    set_learning_rate(twin, 0.002)
    after_step(fast, optimizer, 1), after_step(plain, twin, 1)
    triples = zip(before[0], fast[0], plain[0], strict=True)
    for start, five, one in triples:
        five_times = 5 * (one.weight - start.weight)
        torch.testing.assert_close(five.weight - start.weight, five_times, rtol=1e-3, atol=1e-6)
        assert torch.equal(five.bias, one.bias)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_restored_optimizer_goes_on_alike(kind):
    stage = StageConfig(steps=1, learning_rate=0.01, optimizer=kind, muon_lr_scale=5)
    model = small()
    optimizer = build_optimizer(model, stage)
    after_step(model, optimizer)
    twin = copy.deepcopy(model)
    restored = build_optimizer(twin, stage)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one in (optimizer, restored):
        set_learning_rate(one, 0.003)  # both parts must see it
    after_step(model, optimizer), after_step(twin, restored)
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)
    assert isinstance(optimizer, MuonAdamW) == (kind == "muon")


def test_average_follows_the_weights_and_copies_buffers():
    model = nn.BatchNorm1d(2)
    average = AveragedModel(model, decay=0.9)
    assert not average.model.training
    weight = torch.ones(2)
    for step in range(1, 200):
        with torch.no_grad():
            model.weight.fill_(step)
        model.running_mean.fill_(7)
        average.update(model, step)
        decay = min(0.9, step / (10 + step))
        weight = weight * decay + step * (1 - decay)
    torch.testing.assert_close(average.model.weight.data, weight)
    assert torch.equal(average.model.running_mean, model.running_mean)
    assert model.weight.requires_grad
    assert not average.model.weight.requires_grad
