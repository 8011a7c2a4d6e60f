import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from untrained import CONFIG, stirred

from genie import SamplingConfig
from genie.core.config import UserError
from genie.world.action_mapper import (
    ActionMapper,
    MapperConfig,
    latent_actions_hash,
    parse_actions,
    read_mapper,
)

NAMES = ("noop", "left", "right", "up", "right+up", "down")
COUNTS = torch.tensor(
    [[6, 0, 0, 2, 0, 0], [1, 8, 0, 1, 0, 0], [1, 0, 6, 1, 2, 0], [0, 0, 0, 0, 0, 0]]
)
FRAME = np.full((16, 16, 3), 90, np.uint8)
FRAMES = np.full((2000, 16, 16, 3), 90, np.uint8)


def mapper_of(kind="dictionary", latent_actions="hash"):
    mapper = ActionMapper(MapperConfig(kind, NAMES, 4, latent_actions, 28, width=8))
    mapper.counts.copy_(COUNTS)
    return mapper


def test_real_actions_are_sampled_in_the_proportions_of_the_dictionary():
    found = mapper_of().to_real(FRAMES, 2, np.random.default_rng(0))
    shares = np.bincount(found, minlength=6) / len(found)
    np.testing.assert_allclose(shares, [0.1, 0, 0.6, 0.1, 0.2, 0], atol=0.03)
    assert mapper_of().to_real(FRAME, 2) == 2


def test_latent_actions_are_sampled_in_proportion_too():
    found = mapper_of().to_latent(FRAMES, "noop", np.random.default_rng(0))
    shares = np.bincount(found, minlength=4) / len(found)
    np.testing.assert_allclose(shares, [6 / 8, 1 / 8, 1 / 8, 0], atol=0.03)


def test_a_latent_action_without_labels_means_what_is_common():
    shares = mapper_of().real_probabilities(torch.from_numpy(FRAME)[None], torch.tensor([3]))[0]
    torch.testing.assert_close(shares, COUNTS.sum(0) / 28)


def test_a_real_action_plays_the_latent_one_whose_probability_it_raises_most():
    """Latent action 0 is the likeliest for "up", but likelier still for other real actions."""
    mapper = mapper_of()
    mapper.counts.copy_(
        torch.tensor([[9, 9, 9, 5, 0, 0], [0, 0, 0, 4, 0, 0], [1, 0, 0, 0, 0, 0], [0] * 6])
    )
    assert mapper.to_latent(FRAME, "up") == 1
    assert mapper.to_latent(FRAME, "left") == 0


def test_each_frame_may_have_its_own_action():
    frames = FRAMES[:3]
    assert mapper_of().to_latent(frames, ["left", "noop", "right"]).tolist() == [1, 0, 2]
    assert mapper_of().to_latent(frames, np.array([1, 0, 2])).tolist() == [1, 0, 2]
    assert mapper_of().to_latent(frames, "left").tolist() == [1, 1, 1]
    assert mapper_of().to_real(frames, [0, 1, 2]).tolist() == [0, 1, 2]
    assert isinstance(mapper_of().to_latent(torch.from_numpy(FRAME), 1), int)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("jump", "up"), ("Jump-Right", "right+up"), ("up right", "right+up"), ("stand", "noop"),
        ("right+up", "right+up"), (" left ", "left"),
    ],
)  # fmt: skip
def test_names_may_be_said_in_other_ways(word, name):
    assert mapper_of().index_of(word) == NAMES.index(name)


def test_a_number_without_labels_plays_something():
    """The actions of the real game stay complete, for environments."""
    assert mapper_of().to_latent(FRAME, 5) in range(4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.to_latent(FRAME, "fly"), "no action is called 'fly'; this world knows noop"),
        (lambda m: m.to_latent(FRAME, "down"), "no labelled step has the action 'down'"),
        (lambda m: m.to_latent(FRAME, 6), "6 is out of range, this world has 0 to 5"),
        (lambda m: m.to_latent(FRAMES[:2], ["left"]), "one for each of 2 players"),
        (lambda m: m.to_real(FRAME, 4), "4 is out of range"),
        (lambda m: m.to_real(FRAME / 255, 1), "frames: expected uint8"),
    ],
)
def test_what_there_is_not_is_refused(call, words):
    with pytest.raises(UserError, match=words):
        call(mapper_of())


def test_a_network_looks_at_the_frame():
    mapper = mapper_of("network").requires_grad_(False)
    mapper.latent_predictor.to_logits.weight.normal_()
    mapper.real_predictor.to_logits.weight.normal_()
    frames = torch.randint(256, (2, 16, 16, 3), dtype=torch.uint8)
    for shares in (mapper.latent_probabilities, mapper.real_probabilities):
        first, second = shares(frames, torch.tensor([1, 1]))
        assert not torch.allclose(first, second)
        assert first.sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", ["dictionary", "network"])
def test_a_saved_mapper_is_loaded_by_its_world_only(world, tmp_path, kind):
    made = mapper_of(kind, latent_actions_hash(world))
    made.save_pretrained(tmp_path / "mapper")
    assert sorted(path.name for path in (tmp_path / "mapper").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    for folder in (tmp_path, tmp_path / "mapper"):  # of the world, or its own
        loaded = ActionMapper.from_pretrained(folder, world)
        assert loaded.config == made.config
        for name, value in made.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], value)
    other = stirred(CONFIG)
    other.actions.to_latent.weight.data += 1
    with pytest.raises(UserError, match="this mapper was made for other latent actions"):
        ActionMapper.from_pretrained(tmp_path, other)


def test_a_world_in_bfloat16_is_the_same_world(world):
    half = stirred(CONFIG).to(torch.bfloat16)
    mapper_of(latent_actions=latent_actions_hash(world)).require_world(half)


def test_what_a_mapper_does_not_depend_on_may_change(world):
    """Defaults of sampling, the tokenizer and the dynamics; but not the latent actions."""
    other = stirred(replace(CONFIG, sampling=SamplingConfig(steps=7), fps=3.0))
    other.dynamics.head.linear.weight.data += 1
    mapper_of(latent_actions=latent_actions_hash(world)).require_world(other)
    other.actions.quantizer.codebook += 1
    assert latent_actions_hash(other) != latent_actions_hash(world)


def test_a_folder_without_a_mapper_and_a_damaged_one_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no mapper here; make one with `genie map`"):
        ActionMapper.from_pretrained(tmp_path)
    mapper_of("network").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, words in (
        ({"version": 9}, "a mapper of version 9"),
        ({"format": "genie-world"}, "there is no mapper here"),
        ({"config": config["config"] | {"kind": "guess"}}, "kind: 'guess' is not one of"),
        ({"config": config["config"] | {"num_actions": 5}}, "do not fit the configuration"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(UserError, match=words):
            ActionMapper.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not readable as JSON"):
        ActionMapper.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(UserError, match="cut short or damaged"):
        ActionMapper.from_pretrained(tmp_path)


def test_a_server_goes_on_without_a_mapper_that_does_not_fit(world, tmp_path, caplog):
    assert read_mapper(None, world) is None
    assert read_mapper(tmp_path, world) is None
    mapper_of(latent_actions=latent_actions_hash(world)).save_pretrained(tmp_path / "mapper")
    found = read_mapper(tmp_path, world)
    assert found is not None
    assert found.labelled_names == ["noop", "left", "right", "up", "right+up"]
    mapper_of(latent_actions="another").save_pretrained(tmp_path / "mapper")
    assert read_mapper(tmp_path, world) is None
    assert "is ignored: this mapper was made for other latent actions" in caplog.text


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write a mapper"):
        mapper_of().save_pretrained(tmp_path / "file" / "mapper")


def test_impossible_sizes_are_refused():
    with pytest.raises(UserError, match="from 1 to 4096"):
        replace(mapper_of().config, num_actions=0)


def test_actions_are_parsed():
    assert parse_actions("1, 0,3", 4, most=4) == [1, 0, 3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "give only numbers"),
        ("1,,2", "give only numbers"),
        ("1;2", "give only numbers"),
        ("-1", "has 0 to 3"),
        ("²", "give only numbers"),
        ("9" * 30, "give only numbers"),
        ("4", "has 0 to 3"),
        ("0,0,0,0,0", "at most 4"),
    ],
)
def test_other_actions_are_refused_with_advice(text, words):
    with pytest.raises(UserError, match=words):
        parse_actions(text, 4, most=4)


def test_names_are_parsed_where_there_is_a_mapper():
    mapper = mapper_of()
    assert parse_actions("left, right,left", 4, 3, mapper) == ["left", "right", "left"]
    assert parse_actions("1,3", 4, 3, mapper) == [1, 3]
    for text, words in (
        ("left,fly", "'fly'; this world knows noop, left"),
        ("2,left", "not '2,left'"),
    ):
        with pytest.raises(UserError, match=words):
            parse_actions(text, 4, 3, mapper)
    with pytest.raises(UserError, match="4 are too many"):
        parse_actions("left,left,left,left", 4, 3, mapper)
    with pytest.raises(UserError, match="give numbers"):
        parse_actions("left", 4, most=3)
