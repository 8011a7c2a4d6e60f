"""Reports of earlier versions, read under the keys of today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSION = 2

SECTIONS = {
    "labels": "supervised",
    "long_play": "coherence",
    "movement": "scrolling",
    "buttons": "held_actions",
}
"""Sections of version 1 and their keys today."""

KEYS: Mapping[str, Mapping[str, str]] = {
    "headlines": {"words": "explanation"},
    "supervised": {
        "agreement": "action_alignment",
        "sides": "conditions",
        "maps": "action_maps",
        "commonest": "most_common",
        "commonest_true_action": "most_common_true_action",
        "told_apart": "pairwise_accuracy",
        "judged_transitions": "evaluated_transitions",
        "judged_accuracy": "evaluated_accuracy",
        "merged_below": "merge_threshold",
    },
    "closed_loop": {"button": "action"},
    "scrolling": {"button": "action", "ways": "directions"},
    "coherence": {
        "plays": "rollouts",
        "needed": "required",
        "aside": "control",
        "avatar_gone": "avatar_lost",
        "avatar_gone_frames": "avatar_lost_frames",
    },
}
"""Keys of version 1 and today's, anywhere in a section."""

FIGURES = {
    "play": "headlines",
    "clip": "rollouts",
    "buttons": "held_actions",
    "long_play": "coherence",
}
"""How names of figures begin in version 1, and their sections today."""


def upgrade(report: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a report under the keys of today; one of this version comes back as it is."""
    if report.get("version") != 1:
        return dict(report)
    moved = {SECTIONS.get(key, key): value for key, value in report.items()}
    renamed = {key: _renamed(value, KEYS.get(key, {})) for key, value in moved.items()}
    for figure in renamed.get("pictures", []):
        figure["section"] = next(
            section for start, section in FIGURES.items() if figure["name"].startswith(start)
        )
    return renamed | {"version": VERSION}


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {names.get(key, key): _renamed(item, names) for key, item in value.items()}
    return [_renamed(item, names) for item in value] if isinstance(value, list) else value
