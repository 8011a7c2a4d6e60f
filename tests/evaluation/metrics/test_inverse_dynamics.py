import numpy as np
import pytest
import torch

from genie.core.config import UserError
from genie.evaluation.metrics.inverse_dynamics import (
    FEATURES,
    INFERENCE_BATCH,
    WIDTHS,
    InverseDynamics,
    count_parameters,
    encoder_parameters,
    split_episodes,
    train_inverse_dynamics,
    width_for,
)


def test_it_learns_to_read_the_buttons_of_a_game(game):
    store = game.store(episodes=20)
    network = train_inverse_dynamics(store, steps=80)
    clips = store.frames.reshape(20, 40, 16, 16, 3)[1::2]
    true = store.true[1::2, :-1]
    read = network(torch.from_numpy(clips)).argmax(-1)
    assert (read == true).float().mean() > 0.95
    assert (true == 0).float().mean() < 0.4
    assert not network.training
    # The first step has no frame before it.
    assert (read[:, 0] == true[:, 0]).float().mean() > 0.9


def test_without_the_frame_ahead_it_sees_the_past_alone(game):
    frames = torch.from_numpy(game.store().frames.copy()).unflatten(0, (-1, 40))[:2, :4]
    other = frames.clone()
    other[:, 3] = 255 - other[:, 3]
    with torch.no_grad():
        for future_frames in (True, False):
            network = InverseDynamics(4, future_frames=future_frames).eval()
            changed = (network(frames) - network(other)).abs().amax((0, 2)) > 1e-6
            assert changed.tolist() == [False, False, future_frames]


def test_a_step_does_not_depend_on_what_comes_after_it_nor_on_others(game):
    network = InverseDynamics(4).eval()
    frames = torch.from_numpy(game.store().frames.copy()).unflatten(0, (-1, 40))
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


def test_the_encoder_of_a_latent_action_model_is_all_but_its_decoder(real_world):
    actions = real_world.actions
    decoder = ("decoder", "from_latent", "to_motion", "quantizer")
    rest = sum(w.numel() for n, w in actions.named_parameters() if not n.startswith(decoder))
    assert encoder_parameters(actions) == rest > 0


def test_judged_episodes_are_not_trained_on(game):
    trained, judged = split_episodes(game.store(episodes=40), "train", seed=1)
    assert (len(trained), len(judged)) == (18, 2)
    assert not {e.id for e in trained} & {e.id for e in judged}
    assert {e.split for e in [*trained, *judged]} == {"train"}
    assert [len(part) for part in split_episodes(game.store(episodes=2), "train", 0)] == [1, 1]


def labelled(real_store):
    labels = np.random.default_rng(0).integers(4, size=len(real_store))
    np.save(real_store.path / "labels.npy", labels)
    return real_store


def test_it_is_trained_once_and_kept_in_the_store(real_store):
    store, steps = labelled(real_store), []
    first = train_inverse_dynamics(store, steps=3, on_step=lambda: steps.append(1))
    again = train_inverse_dynamics(store, steps=3, on_step=lambda: steps.append(1))
    assert len(steps) == 6  # progress is told of both
    assert first.name == again.name
    assert all(torch.equal(a, b) for a, b in zip(*map(weights, (first, again)), strict=True))
    other = train_inverse_dynamics(store, steps=3, seed=1, on_step=lambda: steps.append(1))
    assert first.name != other.name
    assert not torch.equal(weights(first)[0], weights(other)[0])
    kept = list((store.path / "derived").iterdir())
    assert {path.suffix for path in kept} == {".safetensors"}
    assert len(kept) == 2


def weights(network):
    return list(network.state_dict().values())


def test_a_store_that_cannot_be_written_to_stays_as_it_is(real_store):
    store = labelled(real_store)
    (store.path / "derived").write_text("in the way")
    train_inverse_dynamics(store, steps=1)
    assert (store.path / "derived").read_text() == "in the way"


def test_without_known_actions_it_says_so(game, real_store):
    with pytest.raises(UserError, match="no true actions"):
        train_inverse_dynamics(real_store)
    store = game.store()
    store.labels = lambda: np.where(np.arange(len(store.frames)) < 40, -1, store.true.flatten())
    store.episodes = store.episodes[:1]
    with pytest.raises(UserError, match="'train' split"):
        train_inverse_dynamics(store, steps=1)
