import base64

import numpy as np
import pytest

from genie.core.config import UserError, from_dict
from genie.serving.play.start import parse_start
from genie.serving.protocol import ProtocolError, StartMessage
from genie.world.config import GenieConfig
from genie.world.maskgit import SamplingConfig
from genie.world.replay import encode_frame
from small import STACK, TINY

WORLD = from_dict(
    GenieConfig, {**TINY, "height": 24, "width": 24, "dynamics": {**STACK, "window": 3}}
)
OWN = SamplingConfig(steps=5)


def read(**fields):
    return parse_start(StartMessage(type="start", seq=1, **fields), WORLD, (1, 1), OWN)


def test_a_start_has_the_players_sampling_for_each_step():
    begin, sampling = read(prompt=1, seed=4, actions=[1, 2])
    assert (begin.prompt, begin.seed, sampling) == (1, 4, [OWN, OWN])


def test_a_prompt_may_have_as_many_images_as_the_window():
    noise = np.random.default_rng(0).integers(0, 256, (4, 24, 24, 3), np.uint8)
    texts = [encode_frame(frame) for frame in noise]
    np.testing.assert_array_equal(read(prompt=texts[:3])[0].prompt, noise[:3])
    with pytest.raises(UserError, match="4 pictures, this world remembers 3"):
        read(prompt=texts)


def test_decoding_takes_no_more_memory_than_the_pixels():
    """Data beside the pixels are not decoded."""
    data = base64.b64decode(encode_frame(np.zeros((24, 24, 3), np.uint8)))
    padded = base64.b64encode(data + bytes(8000)).decode()
    with pytest.raises(UserError, match="24x24 takes 8565 characters at most, this one"):
        read(prompt=[padded])


def test_a_replay_of_before_names_the_mask_schedule_in_the_old_way():
    old = [{"step": 0, "sampling": {"steps": 3, "schedule": "linear"}}]
    _, sampling = read(prompt=0, actions=[1], sampling=old)
    assert sampling == [SamplingConfig(steps=3, mask_schedule="linear")]


@pytest.mark.parametrize("fields", [{"prompt": 2}, {"prompt": -1}, {"prompt": 0, "actions": [4]}])
def test_a_missing_prompt_or_action_breaks_the_protocol(fields):
    with pytest.raises(ProtocolError):
        read(**fields)
