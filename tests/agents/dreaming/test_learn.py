import pytest
import torch
from rewarded import GOOD, GoodAction, clips, made_policy, made_world

from genie.agents.dreaming.imagine import Dreams, imagine
from genie.agents.dreaming.learn import ActorCritic, DreamConfig
from genie.core.config import UserError
from genie.models.reward_heads import FeatureConfig

QUICK = DreamConfig(
    games=16, horizon=4, minibatch=64, learning_rate=3e-3, entropy=0.01, critic_updates=1
)


def learner_of(world, config=QUICK):
    heads = GoodAction(world).heads.config
    size = FeatureConfig(heads.features, heads.rows, heads.columns, width=8, hidden=16)
    return ActorCritic(made_policy(), config, size)


def test_the_action_that_is_rewarded_is_learned_in_the_dream():
    world = made_world()
    reward, learner = GoodAction(world, end=0.05), learner_of(world)
    earned = []
    for number in range(14):
        dreams = imagine(world, reward, learner.policy, clips(16), QUICK.horizon, number)
        earned.append(learner.update(dreams, number)["earned"])
    with torch.no_grad():
        shares = learner.policy(clips(16)).softmax(-1).mean(0)
    assert shares[GOOD] > 0.8
    assert earned[-1] > 2 * earned[0]
    assert 0 < learner.critic(dreams.features[:, 0]).mean() < 40


MOMENTS = torch.stack([torch.full((1, 16, 16, 3), v, dtype=torch.uint8) for v in (0, 0, 250, 0)], 1)


def delayed(actions, count=256):
    """Dreams of two steps: the first action decides what the second step earns."""
    rewards = torch.stack([torch.zeros(count), (actions[:, 0] == GOOD).float()], 1)
    return Dreams(
        MOMENTS.expand(count, -1, -1, -1, -1),
        torch.zeros(count, 3, 4, 32),
        actions,
        torch.full((count, 2), 0.25).log(),
        rewards,
        torch.ones(count, 2),
    )


def test_a_reward_is_credited_to_the_action_before_it():
    config = DreamConfig(critic_updates=0, minibatch=512, passes=8, entropy=0.0, learning_rate=3e-3)
    learner = ActorCritic(made_policy(), config, FeatureConfig(32, 2, 2, width=8, hidden=16))
    torch.manual_seed(0)
    actions = torch.randint(4, (256, 2))
    learner.update(delayed(actions))
    with torch.no_grad():
        shares = learner.policy(torch.cat([MOMENTS[:, 0:2], MOMENTS[:, 1:3]])).softmax(-1)
    assert shares[0, GOOD] > 0.3
    assert shares[0, GOOD] > shares[1, GOOD] + 0.05


def test_the_critic_learns_first_and_the_target_follows():
    world = made_world()
    learner = learner_of(world)
    before = {name: weight.clone() for name, weight in learner.policy.state_dict().items()}
    dreams = imagine(world, GoodAction(world), learner.policy, clips(16), 4)
    told = learner.update(dreams)
    assert "actor_loss" not in told
    assert all(torch.equal(before[k], v) for k, v in learner.policy.state_dict().items())
    gap = [
        (a - b).abs().max()
        for a, b in zip(learner.target.parameters(), learner.critic.parameters(), strict=True)
    ]
    assert max(gap) > 0
    assert not any(weight.requires_grad for weight in learner.target.parameters())
    assert "actor_loss" in learner.update(dreams)


def test_learning_goes_on_as_if_it_had_not_stopped():
    world = made_world()
    whole, first = learner_of(world), learner_of(world)
    dreams = imagine(world, GoodAction(world), whole.policy, clips(16), 4)
    for number in range(3):
        whole.update(dreams, number)
    for number in range(2):
        first.update(dreams, number)
    second = learner_of(world)
    second.restore(first.state())
    second.update(dreams, 2)
    for a, b in zip(whole.policy.parameters(), second.policy.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("change", [{"games": 0}, {"gamma": 1.1}, {"clip": 0}, {"entropy": -1}])
def test_impossible_numbers_name_the_field(change):
    with pytest.raises(UserError, match=next(iter(change))):
        DreamConfig(**change)
