"""Keys of configurations that have new names, so that files written before are still read.

Files that the program wrote itself (`config.json` of a world, `train.json` of a run) are translated
silently. What people write (options, YAML, dicts) is refused with the new name.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from genie.core.unions import class_for, kinds_of, without_other_kinds

PREPARE = {"max_static_share": "max_static_fraction", "val_share": "val_fraction"}
SAMPLING = {"schedule": "mask_schedule"}

RENAMED: dict[str, dict[str, str]] = {
    "VideoTokenizerConfig": {
        "squared": "l2_weight",
        "absolute": "l1_weight",
        "motion": "motion_weight",
    },
    "VQConfig": {
        "decay": "ema_decay",
        "commitment": "commitment_weight",
        "revive_below": "dead_code_threshold",
    },
    "LFQConfig": {"commitment": "commitment_weight", "entropy": "entropy_weight"},
    "LatentActionConfig": {
        "shrink": "downsample",
        "margin": "patch_overlap",
        "changes": "num_frame_differences",
        "reach": "max_displacement",
        "kernels": "num_motions",
        "continuous_share": "continuous_fraction",
        "noise": "latent_noise",
        "motion": "motion_weight",
        "commitment": "commitment_weight",
        "decay": "ema_decay",
    },
    "TransformerConfig": {
        "space": "spatial_attention",
        "checkpointing": "activation_checkpointing",
    },
    "DynamicsConfig": {
        "conditioning": "action_conditioning",
        "mask_rate": "mask_ratio",
        "corruption": "context_corruption",
        "copying": "copy_head",
        "change_weight": "changed_token_weight",
        "no_effect": "static_action_dropout",
        "action_noise": "action_dropout",
        "unconditional_share": "unconditional_fraction",
    },
    "StageConfig": {
        "decay": "lr_schedule",
        "accumulate": "grad_accum_steps",
        "muon_scale": "muon_lr_scale",
    },
    "TrainConfig": {
        "fresh_prompt_share": "prompt_encoding_fraction",
        "watch_every": "diagnostics_every",
        "picture_every": "previews_every",
    },
    "Augmentation": {"flip": "flip_prob", "colour": "color_jitter", "stride": "max_stride"},
    "EvaluationConfig": {
        "inverse_steps": "inverse_dynamics_steps",
        "held_games": "closed_loop_games",
        "button_prompts": "action_prompts",
        "button_steps": "action_steps",
        "label_clips": "supervised_clips",
        "held_steps": "closed_loop_steps",
        "choosing_games": "action_selection_games",
        "shown_clips": "figure_clips",
        "long_play": "coherence",
    },
    "CoherenceConfig": {"plays": "rollouts"},
    "Limits": {
        "actions": "actions_per_clip",
        "generations": "concurrent_clips",
        "uploads": "concurrent_uploads",
        "work_per_second": "model_steps_per_second",
        "retry_seconds": "retry_after_seconds",
    },
    "SamplingConfig": SAMPLING,
    "generate": SAMPLING,
    "plan_to_goals": {"passes": "steps"},
    "PrepareConfig": PREPARE,
    "prepare": PREPARE,
    "record": {
        "val_share": "val_fraction",
        "stickiness": "sticky_action_prob",
        "random_share": "random_action_prob",
    },
}
"""Old and new keys of each class, or of the function whose arguments are options."""

_ONE_QUANTIZER = {
    "dim": 32,
    "decay": 0.98,
    "commitment": 0.25,
    "revive_below": 0.05,
    "entropy": 0.1,
}
REMOVED: dict[str, dict[str, Any]] = dict.fromkeys(
    ("VQConfig", "FSQConfig", "LFQConfig"), _ONE_QUANTIZER
)
"""Old keys that a class had before all renamings, with their defaults; some it still has."""

GROUPS = {"schedule": "train"}
"""Old and new names of groups of options."""


def renamed(owner: type | Callable[..., Any]) -> dict[str, str]:
    """Returns the old and new keys of a configuration class or of a function."""
    owners = inspect.getmro(owner) if isinstance(owner, type) else (owner,)
    return {old: new for each in owners for old, new in RENAMED.get(each.__name__, {}).items()}


def translated(cls: type, values: Any) -> Any:
    """Returns nested values with the keys that a configuration class has today.

    Args:
        cls: the dataclass that the values are meant for.
        values: as read from JSON. What is no mapping, or no key of old, is left as it is.
    """
    if not isinstance(values, Mapping):
        return values
    names, parts = renamed(cls), _parts(cls)
    result = {}
    for key, value in values.items():
        new = names.get(key, key)
        new = key if new in values else new
        result[new] = _translated_part(parts[new], value) if new in parts else value
    return result


def _translated_part(hint: Any, values: Any) -> Any:
    if isinstance(values, list | tuple):
        return [_translated_part(hint, item) for item in values]
    if not isinstance(values, Mapping):
        return values
    kinds = kinds_of(hint)
    if not kinds:
        return translated(hint, values)
    names = {old: new for each in kinds.values() for old, new in renamed(each).items()}
    names = {old: new for old, new in names.items() if new not in values}
    now = without_other_kinds(kinds, {names.get(key) or key: values[key] for key in values})
    own = class_for(kinds, now)
    return translated(own, now) if own else now


def with_old_keys(config: Any) -> dict[str, Any]:
    """Returns a configuration as nested dicts whose keys are those from before all renamings.

    What was hashed under its old keys keeps its hash so.
    """
    old = {new: key for key, new in renamed(type(config)).items()}
    result = dict(REMOVED.get(type(config).__name__, {}))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        nested = dataclasses.is_dataclass(value)
        result[old.get(field.name, field.name)] = with_old_keys(value) if nested else value
    return result


def new_option(option: str, owners: Sequence[tuple[str, Any]]) -> str | None:
    """Returns what an old option is called today, None when it never was one.

    Args:
        option: dotted, without dashes, such as `actions.reach`.
        owners: each group of options with the class or function that they come from; the group is
            empty for options without one.
    """
    first, dot, rest = option.partition(".")
    group = GROUPS.get(first)
    today = f"{group}{dot}{rest}" if group in dict(owners) else option
    for group, owner in owners:
        start = f"{group}." if group else ""
        if today.startswith(start):
            today = start + _new_path(owner, today.removeprefix(start))
    return today if today != option else None


def _new_path(owner: Any, path: str) -> str:
    first, dot, rest = path.partition(".")
    first = renamed(owner).get(first, first)
    part = _parts(owner).get(first) if isinstance(owner, type) else None
    for each in kinds_of(part).values() or [part] if part else []:
        rest = _new_path(each, rest) if rest else rest
    return first + dot + rest


def _parts(cls: type) -> dict[str, Any]:
    """Returns the fields that are configurations, one of several kinds, or tuples of them."""
    if not dataclasses.is_dataclass(cls):
        return {}
    hints = {name: _item(hint) for name, hint in typing.get_type_hints(cls).items()}
    return {
        n: hint for n, hint in hints.items() if dataclasses.is_dataclass(hint) or kinds_of(hint)
    }


def _item(hint: Any) -> Any:
    """Returns what a tuple of any length holds, other hints as they are."""
    arguments = typing.get_args(hint)
    return arguments[0] if arguments[1:] == (...,) else hint
