"""Exported graphs play the tokens of the world, by the example that needs no PyTorch."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from example_modules import example_module
from genie import Genie, SamplingConfig, UserError
from genie.core.config import to_dict
from genie.export.graphs import play_graphs
from genie.export.onnx import (
    DESCRIPTION,
    OPSET,
    WEIGHTS,
    WeightsFile,
    _labels,
    export_onnx,
    model_of,
)
from genie.world import maskgit
from genie.world.action_mapper import ActionMapper, MapperConfig
from genie.world.rounding import restored, rounded
from small import STACK, TINY

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.xdist_group("export")
ACTIONS = [0, 1, 2, 3, 3, 1, 2, 0]


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingConfig(steps=2),
        SamplingConfig(steps=3, order="halton", mask_schedule="linear", temperature=0.7),
        SamplingConfig(steps=3, mask_schedule="exponential", temperature=0),
        SamplingConfig(steps=2, guidance=1.5),
        SamplingConfig(steps=5, reencode_every=3),
    ],
    ids=["random", "halton", "greedy", "guided", "re-encoded"],
)
def test_a_runtime_without_pytorch_plays_the_tokens_of_step(exported, world, sampling):
    prompt = np.array(Image.open(exported / "prompts" / "0.png"))
    game = example_module("play_onnx").Game(exported, prompt, seed=5)
    game.world["sampling"] = to_dict(sampling)
    state = world.start(prompt, seed=5)
    for action in ACTIONS:
        frame, state = world.step(state, action, sampling)
        played = game.step(action)
        assert game.previous.tolist() == state.dynamics.tokens.tolist()
        np.testing.assert_allclose(played.astype(int), frame.numpy(), atol=1)


@pytest.mark.parametrize("order", ["random", "halton", "confidence"])
def test_order_and_counts_of_the_example_draw_coarse_tokens_first(order):
    example, keys, grid = example_module("play_onnx"), torch.tensor([5]), (5, 4)
    wanted, key = maskgit.fixed_order(order, grid, keys, 4), np.uint64(5)
    found = example.token_order(order, grid, key, 4)
    assert (found if found is None else found.tolist()) == (
        wanted if wanted is None else wanted[0].tolist()
    )
    for steps in (1, 2, 5, 9, 25):
        counts = maskgit.step_counts(20, SamplingConfig(steps=steps, order=order), 4)
        assert example.step_counts(20, steps, "cosine", 4) == counts


@torch.no_grad()
@pytest.mark.parametrize(
    ("backbone", "names"),
    [
        ("transformer", ["decode"]),
        ("conv", ["tokenize", "decode"]),
        ("conv3d", ["start", "decode"]),
    ],
)
def test_graphs_of_other_tokenizers_compute_what_their_modules_do(backbone, names):
    sizes = {"encoder": STACK, "decoder": STACK} if backbone == "transformer" else {}
    tokenizer = {"backbone": backbone, "patch": 8, "quantizer": {"codes": 16, "dim": 8}, **sizes}
    world = Genie({**TINY, "tokenizer": tokenizer}).eval()
    for graph in play_graphs(world):
        if graph.name not in names:
            continue
        session = onnxruntime.InferenceSession(model_of(graph).SerializeToString())
        given = {each.name: graph.inputs[each.name].numpy() for each in session.get_inputs()}
        made = graph.module(*graph.inputs.values())
        made = made if isinstance(made, tuple) else (made,)
        for one, other in zip(session.run(None, given), made, strict=True):
            grey_levels = 1 if other.dtype == torch.uint8 else 0
            np.testing.assert_allclose(one.astype(float), other.numpy(), atol=1e-4 + grey_levels)


def test_the_example_writes_a_film(exported, tmp_path, capsys):
    clip = tmp_path / "clip.gif"
    example_module("play_onnx").main([str(exported), "--actions", "3,1,2", "--out", str(clip)])
    assert "4 frames" in capsys.readouterr().out
    with Image.open(clip) as film:
        assert film.n_frames == 4


def test_a_step_by_confidence_is_the_same_graph_as_the_module(world):
    by_confidence = Genie(replace(world.config, sampling=SamplingConfig(order="confidence")))
    by_confidence.load_state_dict(world.state_dict())
    (graph,) = [g for g in play_graphs(by_confidence.eval()) if g.name == "maskgit_step"]
    given = {name: value.clone() for name, value in graph.inputs.items()}
    given["tokens"].fill_(world.dynamics.mask_token)
    given["count"] = torch.tensor(2, dtype=torch.int32)
    given["noise"] = -(-torch.rand(given["noise"].shape).log()).log()
    session = onnxruntime.InferenceSession(model_of(graph).SerializeToString())
    (sampled,) = session.run(None, {name: value.numpy() for name, value in given.items()})
    assert sampled.tolist() == graph.module(*given.values()).tolist()
    assert (sampled != world.dynamics.mask_token).sum() == 2


def test_the_description_says_how_the_graphs_are_called(exported, world):
    about = json.loads((exported / DESCRIPTION).read_text())
    assert about["action_names"] == ["left", "", "", "jump"]
    assert about["sampling"] == to_dict(world.config.sampling)
    for graph in about["graphs"].values():
        session = onnxruntime.InferenceSession(exported / graph["file"])
        for wanted, found in (
            (graph["inputs"], session.get_inputs()),
            (graph["outputs"], session.get_outputs()),
        ):
            assert {x.name: x.shape for x in found} == {n: v["shape"] for n, v in wanted.items()}
            assert not any("64" in x.type for x in found), "browsers have no 64-bit tensors"


def test_real_actions_play_the_latent_ones_of_the_mapper(exported, folder, world):
    mapper = ActionMapper.from_pretrained(folder, world)
    session = onnxruntime.InferenceSession(exported / "play_real.onnx")
    colours = np.random.default_rng(1).integers(0, 256, (20, 1, 1, 3), np.uint8)
    frames = colours.repeat(16, 1).repeat(16, 2)
    found = np.concatenate([session.run(None, {"frame": frame[None]}) for frame in frames])
    for name, latents in zip(("left", "right"), found.T, strict=True):
        assert latents.tolist() == mapper.to_latent(frames, name).tolist()
    assert len(np.unique(found[:, 0])) > 1


def test_a_dictionary_is_a_list_in_the_description(world, tmp_path):
    mapper = ActionMapper(MapperConfig("dictionary", ("noop", "left", "right"), 4, "", 9))
    mapper.counts[[3, 0], [1, 2]] = 2
    labels = _labels(tmp_path, "toy", world.config, mapper)
    assert (labels["real_actions"], labels["real_latents"]) == (["left", "right"], [3, 0])
    assert [graph.name for graph in play_graphs(world, mapper)] == [
        graph.name for graph in play_graphs(world)
    ]
    assert _labels(tmp_path, "toy", world.config, None)["real_actions"] == []


def test_graphs_share_their_weights_and_hold_no_path(exported, world):
    size = (exported / WEIGHTS).stat().st_size
    parameters = sum(weight.numel() for weight in world.parameters())
    assert size < 4 * parameters
    for file in exported.glob("*.onnx"):
        assert b".py" not in file.read_bytes()


@pytest.mark.parametrize(
    ("weights", "of_one", "of_many"),
    [("float32", 4, 4), ("lossless", 4, 2), ("float16", 2, 2)],
)
def test_weights_take_two_bytes_where_that_is_asked_for_or_loses_nothing(
    tmp_path, weights, of_one, of_many
):
    """A sum of a tensor that float16 would round and of another that it would not."""
    rounded = np.full((2, 500), 1 / 3, np.float32)
    exact = np.full((2, 500), 0.25, np.float32)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Add", ["one", "many"], ["sum"])],
            "sum",
            [],
            [onnx.helper.make_tensor_value_info("sum", onnx.TensorProto.FLOAT, (2, 500))],
            [
                onnx.numpy_helper.from_array(rounded, "one"),
                onnx.numpy_helper.from_array(exact, "many"),
            ],
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=10,
    )
    table = WeightsFile(tmp_path / WEIGHTS, weights)
    for name in ("first", "second"):  # which share both tensors
        copy = onnx.ModelProto.FromString(model.SerializeToString())
        table.move_out(copy)
        onnx.save(copy, tmp_path / f"{name}.onnx")
    table.write()
    needed = 1000 * (of_one + of_many)
    assert needed <= (tmp_path / WEIGHTS).stat().st_size < needed + 64
    (total,) = onnxruntime.InferenceSession(tmp_path / "second.onnx").run(None, {})
    np.testing.assert_allclose(total, rounded + exact, atol=0 if of_one == 4 else 1e-4)


@pytest.mark.parametrize(("weights", "of_one"), [("lossless", 1), ("float32", 4)])
def test_matrices_of_8_bits_stay_so_in_the_file(weights, of_one, tmp_path):
    saved = rounded({"w": torch.randn(40, 50)}, {"w"})
    integers, scale = (saved[name].numpy() for name in ("w", "w.row_scale"))
    values = restored(saved)["w"].numpy()
    output = onnx.helper.make_tensor_value_info("same", onnx.TensorProto.FLOAT, values.shape)
    nodes = [onnx.helper.make_node("Identity", ["matrix"], ["same"])]
    tensors = [onnx.numpy_helper.from_array(values, "matrix")]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "same", [], [output], tensors),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=10,
    )
    table = WeightsFile(tmp_path / WEIGHTS, weights, [(integers, scale)])
    table.move_out(model)
    table.write()
    onnx.save(model, tmp_path / "same.onnx")
    size = (tmp_path / WEIGHTS).stat().st_size
    assert of_one * values.size <= size < of_one * values.size + 256
    (same,) = onnxruntime.InferenceSession(tmp_path / "same.onnx").run(None, {})
    np.testing.assert_array_equal(same, values)


def test_an_earlier_export_is_replaced_and_nothing_else(folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(UserError, match="holds something that is not an export"):
        export_onnx(folder, tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    with pytest.raises(UserError, match="not an export"):
        export_onnx(folder, tmp_path / "mine" / "notes.txt")


def test_missing_packages_are_named(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'genie-worlds\[export\]'"):
        export_onnx(folder, tmp_path / "out")
