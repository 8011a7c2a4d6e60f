import pytest
import torch

from genie import Genie, GenieConfig, SamplingConfig, State
from genie.models.dynamics import DynamicsConfig
from genie.models.latent_actions import LatentActionConfig
from genie.models.layers.transformer import TransformerConfig
from genie.models.quantizers import QuantizerConfig
from genie.models.tokenizer import VideoTokenizerConfig

LAYERS = TransformerConfig(layers=1, width=32, heads=4, window=3)
CONFIG = GenieConfig(
    height=16,
    width=16,
    num_actions=4,
    tokenizer=VideoTokenizerConfig(
        patch=4, encoder=LAYERS, decoder=LAYERS, quantizer=QuantizerConfig(codes=32, dim=8)
    ),
    actions=LatentActionConfig(patch=4, encoder=LAYERS, decoder=LAYERS),
    dynamics=DynamicsConfig(layers=2, width=32, heads=4, window=4),
    sampling=SamplingConfig(steps=3),
)


def stirred(config: GenieConfig) -> Genie:
    """Random weights, turned up so that the action and the past matter as in a trained world."""
    torch.manual_seed(0)
    world = Genie(config)
    with torch.no_grad():
        for weight in world.dynamics.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
        world.dynamics.head.weight.mul_(5)
    return world.eval()


@pytest.fixture(scope="module")
def world() -> Genie:
    return stirred(CONFIG)


def frames(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 16, 16, 3), dtype=torch.uint8, generator=generator)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal but for the rounding of a grey level: the tokens are the same."""
    return a.shape == b.shape and int((a.int() - b.int()).abs().max()) <= 1


def test_a_state_is_a_value_from_which_games_branch(world: Genie):
    state = world.start(frames(1)[0], seed=3)
    _, state = world.step(state, 1)
    branch, before = state.clone(), state.frame.clone()
    left, _ = world.step(state, 2)
    right, _ = world.step(state, 3)
    again, _ = world.step(branch, 2)
    assert torch.equal(left, again)
    assert not torch.equal(left, right)
    assert torch.equal(state.frame, before)
    assert state.time.tolist() == [2]


def test_players_at_different_frames_stack_and_split(world: Genie):
    early = world.start(frames(1)[0], seed=1)
    late = world.start(frames(1, seed=5)[0], seed=2)
    for action in (0, 1, 2, 3, 0):
        _, late = world.step(late, action)
    both = State.stack([early, late])
    assert both.time.tolist() == [1, 6]
    pictures, after = world.step(both, [1, 2])
    assert close(pictures[0], world.step(early, 1)[0])
    assert close(pictures[1], world.step(late, 2)[0])
    assert [state.time.item() for state in after.split()] == [2, 7]
