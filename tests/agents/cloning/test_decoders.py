import pytest
import torch
from quick_cloning import QUICK, new_network
from square_game import LENGTH, SQUARE

from genie.agents.agent import AgentPlayer
from genie.agents.cloning.decoders import DECODERS, Decoding, for_labels, from_labels_alone
from genie.agents.cloning.fit import CloneConfig, fit_policy
from genie.agents.real_game import RealGameConfig, measure

GAME = RealGameConfig(SQUARE, levels=8, seeds=1, num_envs=8)


@pytest.fixture(scope="module")
def decoding(steps):
    torch.manual_seed(0)  # tests are seeded, but only after the fixtures of their module
    policy = new_network()
    fit_policy(policy, policy.to_latent, steps, steps.latent, QUICK)
    return Decoding.of(policy, steps.labelled(60, 0), QUICK, "toy")


@pytest.mark.parametrize("decoder", DECODERS)
def test_few_labels_suffice(decoding, decoder):
    agent = decoding.agent(decoder, 12)
    assert agent.space == "real"
    assert agent.config.labels == 12
    assert (agent.config.latent_actions == "toy") == (decoder != "finetuned")
    assert measure(AgentPlayer(agent), GAME).mean > 0.8 * LENGTH


def test_the_policy_itself_stays_as_it_is(decoding):
    before = {name: value.clone() for name, value in decoding.policy.state_dict().items()}
    decoding.agent("finetuned", 20)
    for name, value in decoding.policy.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_shuffled_codes_are_worth_nothing_to_a_dictionary(decoding, steps):
    pool = decoding.pool.shuffled(0)
    agent = Decoding.of(decoding.policy, pool, QUICK).agent("dictionary", 60)
    assert measure(AgentPlayer(agent), GAME).mean < 0.75 * LENGTH


def test_labels_alone_make_an_agent_too(steps):
    agent = from_labels_alone(steps.labelled(120, 0), 120, QUICK)
    assert agent.space == "real"
    assert agent.config.policy.latent_actions == 0
    assert measure(AgentPlayer(agent), GAME).mean > 0.8 * LENGTH


def test_trainings_on_few_labels_are_short():
    assert for_labels(QUICK, 10).steps == QUICK.steps
    longer = CloneConfig(steps=5000, batch=50)
    assert [for_labels(longer, n).steps for n in (10, 500, 50_000)] == [100, 400, 5000]
