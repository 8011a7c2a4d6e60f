import json
from dataclasses import replace

import pytest
import yaml
from failing import fails

from genie.cli import main
from genie.core.config import to_dict
from genie.models.quantizers.registry import KINDS
from genie.models.tokenizers.registry import BACKBONES
from genie.presets import registry
from genie.training import config, pipeline
from genie.training.finetune import BaseWorld
from genie.world.config import GenieConfig


def resolved(capsys, *arguments: object) -> dict:
    """The configuration that `genie train` ends up with."""
    command = ["train", "--data", "d", "--out", "o", *map(str, arguments), "--print_config"]
    assert main.main(command) == 0
    return yaml.safe_load(capsys.readouterr().out)


def trained_with(monkeypatch, *arguments: str) -> GenieConfig:
    """The configuration of a world that `genie train` would train."""
    given = {}
    monkeypatch.setattr(pipeline, "train", lambda *_, **options: given.update(options))
    assert main.main(["train", "--data", "d", "--out", "o", *arguments]) == 0
    return given["world"]


def test_a_preset_gives_the_defaults_and_flags_override_them(capsys):
    flags = ("--dynamics.layers", 2, "--train.tokenizer.minutes", 5, "--num-actions", 4)
    config = resolved(capsys, "--preset", "coinrun", *flags)
    assert config["dynamics"]["layers"] == 2
    assert config["dynamics"]["width"] == 512
    assert config["num_actions"] == 4
    assert config["train"]["tokenizer"]["minutes"] == 5
    assert config["train"]["dynamics"]["steps"] == 200_000


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


@pytest.mark.parametrize(
    ("arguments", "quantizer"),
    [
        ((), {"kind": "fsq", "codes": 1000}),
        (("kind=vq",), {"kind": "vq", "codes": 1000, "dim": 32}),
        (("kind=lfq", "codes=512", "entropy-weight=0.5"), {"kind": "lfq", "entropy_weight": 0.5}),
        (("entropy_weight=0.5", "codes=512", "kind=lfq"), {"kind": "lfq", "entropy_weight": 0.5}),
    ],
)
def test_options_choose_a_quantizer(arguments, quantizer, tmp_path, monkeypatch):
    chosen = trained_with(monkeypatch, *(f"--tokenizer.quantizer.{each}" for each in arguments))
    values = to_dict(chosen.tokenizer.quantizer)
    assert values == values | quantizer


@pytest.mark.parametrize("preset", ["tiny", "coinrun"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_printed_quantizer_reads_back(kind, preset, capsys, tmp_path, monkeypatch):
    quantizer = (f"--tokenizer.quantizer.kind={kind}", "--tokenizer.quantizer.codes=64")
    config = resolved(capsys, "--preset", preset, *quantizer)
    file = tmp_path / "printed.yaml"
    file.write_text(yaml.safe_dump(config))
    assert trained_with(monkeypatch, "--config", str(file)).tokenizer.quantizer == KINDS[kind](
        codes=64
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("kind=vqq",), f"kind: expected {' or '.join(KINDS)}, got 'vqq'"),
        (("kind=fsq", "codes=1024"), "tokenizer.quantizer.codes: FSQ has sizes"),
        (("kind=fsq", "dim=7"), "tokenizer.quantizer.dim: unknown key; known keys: kind, codes"),
        (("decay=0.9",), "it is now --tokenizer.quantizer.ema_decay"),
    ],
)
def test_a_wrong_quantizer_is_refused(arguments, sentence, capsys):
    options = [f"--tokenizer.quantizer.{argument}" for argument in arguments]
    assert sentence in fails(capsys, "train", "--data", "d", "--out", "o", *options)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_printed_backbone_reads_back(backbone, capsys, tmp_path, monkeypatch):
    chosen = (f"--tokenizer.backbone={backbone}", "--tokenizer.quantizer.kind=bsq")
    config = resolved(capsys, "--preset", "coinrun", "--tokenizer.quantizer.codes=64", *chosen)
    file = tmp_path / "printed.yaml"
    file.write_text(yaml.safe_dump(config))
    read = trained_with(monkeypatch, "--config", str(file)).tokenizer
    assert type(read) is BACKBONES[backbone]
    assert (read.patch, read.quantizer) == (4, KINDS["bsq"](codes=64))
    assert not {"encoder", "channels"} <= set(to_dict(read))


def test_an_unknown_backbone_is_refused(capsys):
    options = ["--tokenizer.backbone", "mlp"]
    said = fails(capsys, "train", "--data", "d", "--out", "o", *options)
    assert f"tokenizer.backbone: expected {' or '.join(BACKBONES)}, got 'mlp'" in said


def test_an_unfinished_run_keeps_its_settings(capsys, tmp_path):
    settings = {"world": {"num_actions": 5}, "train": {"seed": 7}}
    (tmp_path / "train.json").write_text(json.dumps(settings))
    config = resolved(capsys, "--out", tmp_path)
    assert (config["num_actions"], config["train"]["seed"]) == (5, 7)
    assert resolved(capsys, "--out", tmp_path, "--preset", "tiny")["num_actions"] == 8


def test_an_unfinished_run_that_was_begun_under_old_keys_keeps_its_settings(capsys, tmp_path):
    settings = {"world": {"dynamics": {"no_effect": 0.3}}, "train": {"watch_every": 7}}
    (tmp_path / "train.json").write_text(json.dumps(settings))
    config = resolved(capsys, "--out", tmp_path)
    assert config["dynamics"]["static_action_dropout"] == 0.3
    assert config["train"]["diagnostics_every"] == 7


def test_a_world_to_go_on_from_gives_its_sizes(capsys, world):
    config = resolved(capsys, "--from", world, "--num-actions", 5)
    assert config["from"] == str(world)
    assert (config["num_actions"], config["height"], config["dynamics"]["width"]) == (5, 16, 16)
    tiny = registry.get("tiny").train.dynamics
    assert config["train"]["dynamics"]["learning_rate"] == tiny.learning_rate / 4
    other = resolved(capsys, "--from", world, "--preset", "demo")
    assert other["dynamics"]["width"] == 16
    assert other["train"]["dynamics"]["clip_frames"] == 5
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
        (["--train.seed", "-1"], "train.seed: -1 is negative"),
        (["--actions.reach", "3"], "unknown option, it is now --actions.max_displacement"),
        (["--schedule.seed=1"], "--schedule.seed: unknown option, it is now --train.seed"),
        (["--device", "tpu"], "device: expected cpu or cuda or mps, got 'tpu'"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: there is no such file"),
    ],
)
def test_a_bad_training_option_is_named(arguments, sentence, capsys):
    assert sentence in fails(capsys, "train", "--data", "d", "--out", "o", *arguments)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("schedule:\n  dynamics:\n    decay: wsd\n", "it is now train.dynamics.lr_schedule"),
        ("tokenizer:\n  encoder:\n    space: false\n", "now tokenizer.encoder.spatial_attention"),
    ],
)
def test_an_old_key_of_a_configuration_file_is_named_with_the_new_one(
    text, sentence, capsys, tmp_path
):
    file = tmp_path / "old.yaml"
    file.write_text(text)
    assert sentence in fails(capsys, "train", "--data", "d", "--out", "o", "--config", file)


@pytest.mark.parametrize("text", ["a: [b", "- 1", "\x00"])
def test_a_broken_configuration_file_is_named(text, capsys, tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    assert str(file) in fails(capsys, "train", "--data", "d", "--out", "o", "--config", file)


GO_ON = "not trained yet: actions, dynamics; the same command with --stages '[actions, dynamics]'"


@pytest.mark.parametrize(
    ("trained", "changes", "sentence"),
    [
        (["tokenizer"], {}, GO_ON),
        (["tokenizer", "actions", "dynamics"], {}, "--data d\nplay it: genie play"),
        (["tokenizer", "dynamics"], {"joint": True}, "the world is ready"),
        (["dynamics"], {"base": BaseWorld("coinrun-tiny")}, "the world is ready"),
    ],
)
def test_what_to_do_next_is_said(trained, changes, sentence, capsys, tmp_path, monkeypatch):
    def train(data, out, **options):
        run = config.defaults("tiny")
        joint = replace(run.train, joint=changes.get("joint", False))
        config.write(tmp_path, replace(run, train=joint, base=changes.get("base")))
        (tmp_path / "checkpoints").mkdir()
        for stage in trained:
            (tmp_path / "checkpoints" / f"{stage}.ckpt").touch()

    monkeypatch.setattr(pipeline, "train", train)
    assert main.main(["train", "--data", "d", "--out", str(tmp_path)]) == 0
    assert sentence in capsys.readouterr().out
