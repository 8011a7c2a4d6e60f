import copy
import warnings
from dataclasses import replace

import pytest
import torch

from genie.core.config import UserError
from genie.data.sampler import BatchIndex
from genie.models.tokenizer_losses.config import WEIGHTS, ExtraLosses
from genie.training.batches import FrameBatches
from genie.training.pipeline import train
from genie.training.stages.tokenizer import STAGE
from genie.training.tokenizer_losses import TokenizerWithLosses
from genie.world.genie import Genie

ALL = ExtraLosses(
    adversarial_weight=0.5, adversarial_start=0.5, perceptual_weight=0.1, temporal_weight=0.1
)


def with_losses(config, losses):
    return replace(config, tokenizer=replace(config.tokenizer, extra_losses=losses))


@pytest.fixture
def frames(store):
    return torch.from_numpy(store.windows([0, 10], 4))


def model_of(config, losses) -> TokenizerWithLosses:
    torch.manual_seed(0)
    return TokenizerWithLosses(Genie(with_losses(config, losses)).tokenizer).train()


def test_without_any_the_tokenizer_trains_alone(small_world, schedule):
    world = Genie(small_world)
    assert STAGE.model(world, schedule) is world.tokenizer


@pytest.mark.parametrize("name", WEIGHTS)
def test_each_changes_the_gradient_of_the_tokenizer(small_world, frames, name):
    gradients = []
    for losses in (ExtraLosses(), ExtraLosses(**{name: 1.0})):
        model = model_of(small_world, losses)
        model.loss(frames)[0].backward()
        gradients.append(model.tokenizer.to_pixels.weight.grad)
    assert (gradients[0] - gradients[1]).norm() > 1e-3 * gradients[0].norm()


def test_the_discriminator_starts_late(small_world, frames):
    model = model_of(small_world, ALL)
    assert model.phase_boundaries == (0.0, 0.5)
    assert "discriminator_loss" not in model.loss(frames, 0.4)[1]
    loss, logs = model.loss(frames, 0.6)
    assert "discriminator_loss" in logs
    loss.backward()
    weights = model.discriminator.parameters()
    assert all(weight.grad.any() for weight in weights if weight.ndim > 1)
    assert model.eval().loss(frames, 0.6)[0].isfinite()


def test_a_distance_from_a_file_takes_the_place_of_our_features(small_world, frames, tmp_path):
    class Brightness(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, one, other):
            return self.scale * (one.mean((1, 2, 3)) - other.mean((1, 2, 3))).square()

    path, images = tmp_path / "brightness.pt", torch.zeros(2, 3, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(Brightness(), (images, images)).save(path)
    losses = ExtraLosses(perceptual_weight=1.0, perceptual_network=str(path))
    model = model_of(small_world, losses)
    average = copy.deepcopy(model)
    loss, logs = model.loss(frames)
    loss.backward()
    assert torch.equal(average.loss(frames)[1]["perceptual"], logs["perceptual"])
    assert [weight.grad for weight in model.perceptual.parameters()] == [None]
    with pytest.raises(UserError, match="perceptual_network: there is no file"):
        model_of(small_world, replace(losses, perceptual_network="lpips.pt"))


def test_a_world_is_trained_with_all_of_them_and_holds_none(
    small_world, store, schedule, tmp_path, console
):
    config = with_losses(small_world, ALL)
    few = replace(schedule, tokenizer=replace(schedule.tokenizer, steps=4, minutes=0))
    train(store, tmp_path, world=config, train=few, stages=["tokenizer"], console=console)
    world = Genie.from_pretrained(tmp_path, device="cpu")
    assert set(world.tokenizer.state_dict()) == set(Genie(small_world).tokenizer.state_dict())
    (frames,) = FrameBatches(store, 4, 2)(BatchIndex(0))
    assert world.tokenizer.encode(frames).shape == (2, 4, 4)
    longer = replace(few, tokenizer=replace(few.tokenizer, steps=6))
    train(store, tmp_path, world=config, train=longer, stages=["tokenizer"], console=console)
    with pytest.raises(UserError, match="adversarial_weight"):
        STAGE.model(world, replace(few, compile=True))
