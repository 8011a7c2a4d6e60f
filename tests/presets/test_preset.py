import dataclasses

import pytest

from genie.presets.preset import Preset
from genie.presets.schedule import TrainConfig
from genie.world.config import GenieConfig


def test_a_preset_has_defaults_and_cannot_be_changed():
    preset = Preset("mine")
    assert (preset.world, preset.train) == (GenieConfig(), TrainConfig())
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset.about = "yours"  # type: ignore[misc]
