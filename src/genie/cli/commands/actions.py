"""`genie actions`: measure what each action of a world does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genie.cli.commands import Command
from genie.cli.options import world_and_store
from genie.core.config import Device

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from genie.plugins.action_effects import EffectsConfig


def _options(parser: ArgumentParser) -> None:
    from genie.plugins.action_effects import EffectsConfig

    parser.add_argument("world", help="folder of a world; actions.json is written into it")
    parser.add_argument("--data", required=True, help="the clip store whose held-out frames serve")
    parser.add_argument("--device", type=Device | None, help="where to run; chosen when left out")
    parser.add_class_arguments(EffectsConfig)


def name_actions(folder: Path, data: str | Path, config: EffectsConfig, device: str | None) -> None:
    """Measures what each action of a world does, writes it into the world's folder and prints it.

    The page names keys after it, and shows one key for actions that do the same.

    Args:
        folder: of the world.
        data: clip store whose held-out frames serve.
        config: how it is measured.
        device: where to run; chosen when None.
    """
    from genie.plugins.action_effects import measure_actions
    from genie.world.action_groups import write_groups
    from genie.world.action_names import read_names

    world, store = world_and_store(folder, data, device)
    names = read_names(folder, world.config.num_actions)
    print(f"measuring the {world.config.num_actions} actions in games of {folder}", flush=True)
    found = measure_actions(world, store, config, names)
    for group in found.groups:
        actions = ", ".join(str(action + 1) for action in group.actions)
        hidden = "" if group.distinct else " (no effect of its own)"
        name = names[group.actions[0]] or group.name or "no name"
        print(f"action {actions}: {name}{hidden}. {group.effect}")
    print(f"{write_groups(folder, found)}: what each action does")


def _run(options: Namespace) -> None:
    from genie.plugins.action_effects import EffectsConfig

    values = options.as_dict()
    config = EffectsConfig(**{key: values[key] for key in EffectsConfig.__dataclass_fields__})
    name_actions(Path(options.world), options.data, config, options.device)


COMMAND = Command(
    order=10,
    about="measure what each action of a world does, and which do the same",
    example="",
    options=_options,
    run=_run,
)
