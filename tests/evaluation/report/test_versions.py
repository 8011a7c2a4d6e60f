import json

import pytest

from genie.evaluation.report.versions import KEYS, SECTIONS, VERSION, upgrade
from genie.world import bundled

OLD = {
    "version": 1,
    "headlines": [{"name": "a", "words": "b"}],
    "labels": {
        "agreement": {"raw": {"sides": {"latent": {"maps": [{"labels": 50, "commonest": 0.5}]}}}},
        "inverse_dynamics": {"judged_accuracy": 0.9, "merges": [{"told_apart": 0.6}]},
    },
    "closed_loop": {"actions": {"left": {"button": 3}}},
    "movement": {"ways": {"left": {"button": 3, "share": 1.0}}},
    "long_play": {"avatar": {"aside": 0.5}, "plays": [{"ended_by": {"avatar_gone": 1}}]},
    "buttons": {"ratio": 2.0},
    "rollouts": {"at": {"4": {}}},
    "pictures": [{"name": "play"}, {"name": "clip_1"}, {"name": "long_play_256"}],
}
NEW = {
    "version": 2,
    "headlines": [{"name": "a", "explanation": "b"}],
    "supervised": {
        "action_alignment": {
            "raw": {
                "conditions": {
                    "latent": {"action_maps": [{"labels": 50, "most_common": 0.5}]},
                }
            }
        },
        "inverse_dynamics": {"evaluated_accuracy": 0.9, "merges": [{"pairwise_accuracy": 0.6}]},
    },
    "closed_loop": {"actions": {"left": {"action": 3}}},
    "scrolling": {"directions": {"left": {"action": 3, "share": 1.0}}},
    "coherence": {"avatar": {"control": 0.5}, "rollouts": [{"ended_by": {"avatar_lost": 1}}]},
    "held_actions": {"ratio": 2.0},
    "rollouts": {"at": {"4": {}}},
    "pictures": [
        {"name": "play", "section": "headlines"},
        {"name": "clip_1", "section": "rollouts"},
        {"name": "long_play_256", "section": "coherence"},
    ],
}


def test_a_report_of_version_1_is_read_under_the_keys_of_today():
    assert upgrade(OLD) == NEW
    assert upgrade(NEW) == NEW


@pytest.mark.parametrize("name", sorted(bundled.names()))
def test_reports_of_bundled_worlds_have_the_keys_of_today(name):
    report = json.loads((bundled.folder_of(name) / "report.json").read_text("utf-8"))
    assert report["version"] == VERSION
    assert not SECTIONS.keys() & report.keys()
    old = {key for names in KEYS.values() for key in names}
    found = {key for key in KEYS for name in old if f'"{name}":' in json.dumps(report[key])}
    assert not found
