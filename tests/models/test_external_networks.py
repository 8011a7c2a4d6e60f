import warnings

import pytest
import torch
from torch import nn

from genie.core.config import UserError
from genie.models.external_networks import NetworkFile, Pixels


class Brightness(nn.Module):
    def forward(self, frames):
        return frames.float().mean((2, 3))


class Square(nn.Module):
    def forward(self, frames):
        return frames.float().flatten(2) @ torch.ones(48, 2)


class Difference(nn.Module):
    def forward(self, real, predicted):
        return (real.float() - predicted.float()).abs().mean((1, 2, 3))


@pytest.fixture
def saved(tmp_path):
    """Saves a network after tracing it on frames."""

    def save(network, *example):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.trace(network, example).save(tmp_path / "net.pt")
        return tmp_path / "net.pt"

    return save


def test_features_come_from_the_file_under_its_name_and_content(saved):
    clips = torch.randint(256, (2, 3, 4, 4, 3), dtype=torch.uint8)
    network = NetworkFile(saved(Brightness(), clips))
    assert torch.allclose(network.features(clips), clips.float().mean((2, 3)))
    assert network.name.startswith("net (sha256 ")
    other = NetworkFile(saved(Difference(), clips[:, 0], clips[:, 1]))
    assert other.name.startswith("net (sha256 ")
    assert other.name != network.name


def test_distances_are_one_for_each_pair(saved):
    real, predicted = torch.zeros(2, 4, 4, 3).byte(), torch.zeros(2, 4, 4, 3).byte()
    predicted[1] = 10
    network = NetworkFile(saved(Difference(), real, predicted))
    assert network.distance(real, predicted).tolist() == [0, 10]


def test_what_is_no_network_is_refused(tmp_path, saved):
    with pytest.raises(UserError, match="no such file"):
        NetworkFile(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(UserError, match="not a TorchScript archive"):
        NetworkFile(tmp_path / "text.pt")


def test_features_of_another_shape_are_refused_with_what_is_wanted(saved):
    clips = torch.zeros(2, 3, 4, 4, 3, dtype=torch.uint8)
    network = NetworkFile(saved(nn.Identity(), clips))
    with pytest.raises(UserError, match=r"\(b, d\) or \(b, n, d\)"):
        network.features(clips)
    with pytest.raises(UserError, match="does not take"):
        NetworkFile(saved(Square(), clips)).features(torch.zeros(2, 3, 8, 8, 3).byte())


def test_pixels_leave_out_the_frame_before():
    clips = torch.zeros(2, 3, 16, 16, 3, dtype=torch.uint8)
    clips[:, 0] = 255
    clips[1, 2, :2, :2, 0] = 255
    features = Pixels().features(clips)
    assert features.shape == (2, 2, 192)
    assert features.sum() == 1
    assert features[1, 1, 0] == 1
    assert Pixels().name == "pixels-8x8"
