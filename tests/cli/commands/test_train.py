import json

import pytest
import yaml
from failing import fails

from genie.cli import main
from genie.presets import registry


def resolved(capsys, *arguments: object) -> dict:
    """The configuration that `genie train` ends up with."""
    command = ["train", "--data", "d", "--out", "o", *map(str, arguments), "--print_config"]
    assert main.main(command) == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_a_preset_gives_the_defaults_and_flags_override_them(capsys):
    flags = ("--dynamics.layers", 2, "--schedule.tokenizer.minutes", 5, "--num-actions", 4)
    config = resolved(capsys, "--preset", "coinrun", *flags)
    assert config["dynamics"]["layers"] == 2
    assert config["dynamics"]["width"] == 512
    assert config["num_actions"] == 4
    assert config["schedule"]["tokenizer"]["minutes"] == 5
    assert config["schedule"]["dynamics"]["steps"] == 200_000


def test_a_file_names_the_preset_and_flags_override_the_file(capsys, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("preset: coinrun\ndynamics:\n  layers: 3\n  heads: 4\n")
    config = resolved(capsys, "--config", file, "--dynamics.heads", 16)
    assert config["num_actions"] == registry.get("coinrun").world.num_actions
    assert (config["dynamics"]["layers"], config["dynamics"]["heads"]) == (3, 16)


def test_a_printed_configuration_reads_back(capsys, tmp_path):
    config = resolved(capsys, "--preset", "small", "--dynamics.layers", 2)
    file = tmp_path / "printed.yaml"
    file.write_text(yaml.safe_dump(config))
    assert resolved(capsys, "--config", file) == config


def test_an_unfinished_run_keeps_its_settings(capsys, tmp_path):
    settings = {"world": {"num_actions": 5}, "train": {"seed": 7}}
    (tmp_path / "train.json").write_text(json.dumps(settings))
    config = resolved(capsys, "--out", tmp_path)
    assert (config["num_actions"], config["schedule"]["seed"]) == (5, 7)
    assert resolved(capsys, "--out", tmp_path, "--preset", "tiny")["num_actions"] == 8


def test_a_world_to_go_on_from_gives_its_sizes(capsys, world):
    config = resolved(capsys, "--from", world, "--num-actions", 5)
    assert config["from"] == str(world)
    assert (config["num_actions"], config["height"], config["dynamics"]["width"]) == (5, 16, 16)
    tiny = registry.get("tiny").train.dynamics
    assert config["schedule"]["dynamics"]["learning_rate"] == tiny.learning_rate / 4
    other = resolved(capsys, "--from", world, "--preset", "demo")
    assert other["dynamics"]["width"] == 16
    assert other["schedule"]["dynamics"]["clip_frames"] == 5
    said = fails(capsys, "train", "--data", "d", "--out", "o", "--from", world / "none")
    assert "none" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--preset", "huge"], "there is no 'huge'; choose one of demo, tiny,"),
        (["--dynamics.layerz", "3"], "did you mean --dynamics.layers?"),
        (["--dynamics.layers", "many"], "dynamics.layers: expected a whole number, got 'many'"),
        (["--dynamics.layers", "0"], "dynamics.layers: must be at least 1"),
        (["--dynamics.context", "x"], "dynamics.context: expected clean or masked, got 'x'"),
        (["--schedule.seed", "-1"], "schedule.seed: -1 is negative"),
        (["--device", "tpu"], "device: expected cpu or cuda or mps, got 'tpu'"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: there is no such file"),
    ],
)
def test_a_bad_training_option_is_named(arguments, sentence, capsys):
    assert sentence in fails(capsys, "train", "--data", "d", "--out", "o", *arguments)


@pytest.mark.parametrize("text", ["a: [b", "- 1", "\x00"])
def test_a_broken_configuration_file_is_named(text, capsys, tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    assert str(file) in fails(capsys, "train", "--data", "d", "--out", "o", "--config", file)
