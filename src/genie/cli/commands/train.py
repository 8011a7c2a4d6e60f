"""`genie train`: train a world."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genie.cli.commands import Command
from genie.cli.options import require_device, values_of
from genie.core.config import Device, UserError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def _options(parser: ArgumentParser) -> None:
    from genie.presets.schedule import TrainConfig
    from genie.world.config import GenieConfig

    parser.add_argument("--data", required=True, help="the clip store that `genie prepare` made")
    parser.add_argument("--out", required=True, help="run folder; an unfinished run there goes on")
    parser.add_argument(
        "--preset",
        help="named sizes and schedule to start from; tiny in a new folder",
    )
    parser.add_argument(
        "--from",
        help="world to go on from: its folder, its id on the Hugging Face Hub or its name",
    )
    parser.add_argument(
        "--keep_actions",
        type=bool | None,
        help="keep the actions of --from as they are (the default); false is for another game, and "
        "places all of their codes anew",
    )
    parser.add_argument(
        "--minutes", type=float | None, help="training time, shared out among the stages"
    )
    parser.add_argument(
        "--stages", type=list[str] | None, help="stages to run, such as [tokenizer]"
    )
    parser.add_argument("--device", type=Device | None, help="where to train; chosen when left out")
    parser.add_class_arguments(GenieConfig)
    parser.add_class_arguments(TrainConfig, "train")


def preset_defaults(arguments: list[str]) -> dict[str, Any]:
    """What the options of `train` start from: a preset, a world, or an unfinished run."""
    import argparse

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in ("--preset", "--config", "--out", "--from"):
        parser.add_argument(option, nargs="?")
    given = vars(parser.parse_known_args(arguments)[0])
    values = _read_config(given["config"]) if given["config"] else {}
    preset, out, base = (given[name] or values.get(name) for name in ("preset", "out", "from"))
    if preset is None and out and os.path.isfile(record := os.path.join(str(out), "train.json")):
        settings = _read_config(record)
        return dict(_leaves(_translated(settings)))
    if base is None:
        return _preset_values(str(preset or "tiny"))
    from genie.core.config import to_dict
    from genie.training.config import defaults

    settings = defaults(preset, str(base))
    return dict(_leaves(to_dict(settings.world) | {"train": to_dict(settings.train)}))


def _translated(record: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run, which may have been begun when keys had other names."""
    from genie.core.renamed_keys import translated
    from genie.presets.schedule import TrainConfig
    from genie.world.config import GenieConfig

    train = translated(TrainConfig, record["train"])
    return {**translated(GenieConfig, record["world"]), "train": train}


def _read_config(path: str) -> dict[str, Any]:
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.safe_load(file)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not a readable configuration file ({reason})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected options and their values, such as `preset: tiny`")
    return values


def _preset_values(name: str) -> dict[str, Any]:
    from genie.core.config import to_dict
    from genie.presets import registry

    preset = registry.get(name)
    return dict(_leaves(to_dict(preset.world) | {"train": to_dict(preset.train)}))


def _leaves(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield path + key, value


def _run(options: Namespace) -> None:
    from genie.core.config import from_dict
    from genie.presets.schedule import TrainConfig
    from genie.world.config import GenieConfig

    values = values_of(options)
    data, out = values.pop("data"), values.pop("out")
    names = ("preset", "from", "keep_actions", "minutes", "stages", "device")
    own = {name: values.pop(name) for name in names}
    own["base"] = own.pop("from")
    require_device(own["device"])
    schedule = from_dict(TrainConfig, values.pop("train"), "train")
    world = from_dict(GenieConfig, values)
    given = {name: value for name, value in own.items() if value is not None}

    from genie.training.distributed import rank_and_size
    from genie.training.pipeline import train  # slow to import: after the options were checked

    train(data, out, world=world, train=schedule, **given)
    if rank_and_size()[0] == 0:
        print(f"{out}: {_what_next(out, data)}")


def _what_next(folder: str, data: str) -> str:
    from genie.training.config import untrained

    left = untrained(Path(folder))
    if left:
        names = ", ".join(left)
        return f"not trained yet: {names}; the same command with --stages '[{names}]' goes on"
    return (
        f"the world is ready\n"
        f"name its keys after what they do: genie actions {folder} --data {data}\n"
        f"play it: genie play {folder}"
    )


COMMAND = Command(
    order=2,
    about="train a world: tokenizer, latent actions, dynamics",
    example="train --preset coinrun --data data/coinrun --out runs/coinrun",
    options=_options,
    run=_run,
    defaults=preset_defaults,
    less_memory="lower --train.STAGE.batch_size, or raise --train.STAGE.grad_accum_steps",
)
