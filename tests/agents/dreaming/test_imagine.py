import numpy as np
import torch
from rewarded import GOOD, GoodAction, clips, made_policy, made_world

from genie.agents.dreaming.imagine import (
    RealStarts,
    action_logits,
    imagine,
    next_state,
    sample_by_cumulation,
)
from genie.world import maskgit, rng
from small import save_store


def test_a_dream_is_what_the_policy_saw_and_did():
    world, policy = made_world(), made_policy()
    started = clips(6)
    dreams = imagine(world, GoodAction(world, end=0.25), policy, started, 5, seed=3)
    assert dreams.frames.shape == (6, 7, 16, 16, 3)
    assert dreams.features.shape[:2] == (6, 6)
    assert torch.equal(dreams.frames[:, :2], started)
    stacks = dreams.stacks()
    assert torch.equal(stacks[:, 0], started)
    assert torch.equal(stacks[:, 3], dreams.frames[:, 3:5])
    assert torch.equal(dreams.rewards, (dreams.actions == GOOD).float())
    torch.testing.assert_close(dreams.reached()[:, 4], torch.full((6,), 0.75**4))
    again = imagine(world, GoodAction(world), policy, started, 5, seed=3)
    assert torch.equal(again.frames, dreams.frames)
    other = imagine(world, GoodAction(world), policy, started, 5, seed=4)
    assert not torch.equal(other.actions, dreams.actions)


def test_threads_share_the_games_and_change_nothing(monkeypatch):
    world, policy = made_world(), made_policy()
    monkeypatch.setattr("genie.agents.dreaming.imagine.SHARE", 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    alone = imagine(world, GoodAction(world), policy, clips(7), 2, seed=3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    shared = imagine(world, GoodAction(world), policy, clips(7), 2, seed=3)
    assert shared.frames.shape == (7, 4, 16, 16, 3)
    assert torch.equal(shared.frames[:, :2], clips(7))
    for name in ("frames", "actions", "log_probs", "features"):
        torch.testing.assert_close(getattr(shared, name), getattr(alone, name))
    assert not torch.equal(shared.actions[:3], shared.actions[3:6])


def test_the_policy_is_computed_in_the_precision_that_is_asked_for():
    policy = made_policy()
    torch.nn.init.normal_(policy.to_latent.weight)
    with torch.no_grad():
        exact, rough = (action_logits(policy, clips(4), d) for d in (torch.float32, torch.bfloat16))
        assert torch.equal(exact, policy(clips(4)))
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, atol=0.2, rtol=0.1)


def test_features_are_those_before_each_step():
    world, policy = made_world(), made_policy()
    started = clips(3)
    dreams = imagine(world, GoodAction(world), policy, started, 2)
    state = world.start(started.numpy())
    torch.testing.assert_close(dreams.features[:, 0], state.dynamics.features)


def test_tokens_have_the_distribution_of_play():
    torch.manual_seed(0)
    logits = (2 * torch.randn(1, 3, 5)).expand(20_000, -1, -1)
    keys, temperature = rng.make_keys(torch.arange(20_000), 0), torch.tensor(0.7)
    for top_k in (0, 2):
        drawn = sample_by_cumulation(logits, keys, temperature, top_k)
        played = maskgit.sample_tokens_by_key(logits, keys, temperature, top_k)
        for position in range(3):
            shares = [
                torch.bincount(tokens[:, position], minlength=5) / len(tokens)
                for tokens in (drawn, played)
            ]
            torch.testing.assert_close(*shares, atol=0.02, rtol=0)


def test_a_step_of_a_dream_is_a_step_of_the_world():
    world = made_world()
    world.config = _greedy(world.config)
    state = world.start(clips(4).numpy())
    actions = torch.tensor([0, 1, 2, 3])
    frame, expected = world.step(state, actions)
    found = next_state(world, state, actions)
    assert torch.equal(found.frames, frame)
    torch.testing.assert_close(found.dynamics.features, expected.dynamics.features)
    assert found.time.tolist() == expected.time.tolist()


def _greedy(config):
    from dataclasses import replace

    return replace(config, sampling=replace(config.sampling, temperature=0.0))


def test_games_start_at_all_moments_of_the_training_episodes(tmp_path):
    count = np.arange(12, dtype=np.uint8)[:, None, None, None]
    frames = np.broadcast_to(count, (12, 16, 16, 3))
    store = save_store(tmp_path, ("train", frames[:7]), ("val", frames[7:]))
    found = RealStarts(store, 3).sample(200, seed=0)[:, :, 0, 0, 0]
    assert found.unique(dim=0).tolist() == [[i, i + 1, i + 2] for i in range(5)]
    assert torch.equal(RealStarts(store, 3).sample(200, 0)[:, :, 0, 0, 0], found)
