import pytest
import torch

from genie.models.inverse_dynamics import (
    FEATURES,
    INFERENCE_BATCH,
    WIDTHS,
    InverseDynamics,
    count_parameters,
    encoder_parameters,
    width_for,
)
from genie.models.latent_actions.motion import LatentActionConfig


@pytest.fixture
def frames():
    """Twelve clips of forty frames."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (12, 40, 16, 16, 3), dtype=torch.uint8, generator=generator)


def test_without_the_frame_ahead_it_sees_the_past_alone(frames):
    frames = frames[:2, :4]
    other = frames.clone()
    other[:, 3] = 255 - other[:, 3]
    with torch.no_grad():
        for future_frames in (True, False):
            network = InverseDynamics(4, future_frames=future_frames).eval()
            changed = (network(frames) - network(other)).abs().amax((0, 2)) > 1e-6
            assert changed.tolist() == [False, False, future_frames]


def test_a_step_does_not_depend_on_what_comes_after_it_nor_on_others(frames):
    network = InverseDynamics(4).eval()
    with torch.no_grad():
        all_at_once = network.features(frames)
        assert all_at_once.shape == (12, 39, FEATURES)
        assert frames.shape[0] * 39 > INFERENCE_BATCH
        alone = network.features(frames[2:3, 4:8])[:, 1:]
    torch.testing.assert_close(all_at_once[2:3, 5:7], alone, atol=1e-4, rtol=1e-4)


def test_it_is_about_as_large_as_asked():
    sizes = [count_parameters(InverseDynamics(15, width)) for width in WIDTHS]
    assert width_for(sizes[2] + 10, 15) == WIDTHS[2]
    assert width_for(0, 15) == WIDTHS[0]
    assert width_for(10**9, 15) == WIDTHS[-1]


def test_the_encoder_of_a_latent_action_model_is_all_but_its_decoder():
    actions = LatentActionConfig(patch=4).build((16, 16), 4)
    decoder = ("decoder", "from_latent", "to_motion", "quantizer")
    rest = sum(w.numel() for n, w in actions.named_parameters() if not n.startswith(decoder))
    assert encoder_parameters(actions) == rest > 0
