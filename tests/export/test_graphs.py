"""The graphs of play: which there are, and that examples and names fit their modules."""

import inspect
from dataclasses import replace

import torch

from genie import Genie
from genie.export.graphs import play_graphs
from small import TINY


def test_guided_steps_exist_only_where_the_world_was_trained_for_them():
    torch.manual_seed(0)
    world = Genie(TINY).eval()
    names = [graph.name for graph in play_graphs(world)]
    assert names == ["tokenize", "start", "maskgit_step", "decode", "commit"]
    dynamics = replace(world.config.dynamics, unconditional_fraction=0.1)
    trained = Genie(replace(world.config, dynamics=dynamics)).eval()
    assert "guided_step" in [graph.name for graph in play_graphs(trained)]


@torch.no_grad()
def test_inputs_and_outputs_are_named_in_the_order_of_the_modules():
    for graph in play_graphs(Genie(TINY).eval()):
        parameters = list(inspect.signature(graph.module.forward).parameters)
        ours = [name for name in graph.inputs if not name.startswith("decoder_")]
        assert ours == parameters[: len(ours)]
        assert len(ours) == len(graph.inputs) or parameters[len(ours) :] == ["cached"]
        made = graph.module(*graph.inputs.values())
        made = made if isinstance(made, tuple) else (made,)
        assert len(made) == len(graph.outputs)
        for name, value in zip(graph.outputs, made, strict=True):
            before = graph.inputs.get(name.removeprefix("next_"))
            assert before is None or before.shape == value.shape
            assert value.dtype != torch.int64
