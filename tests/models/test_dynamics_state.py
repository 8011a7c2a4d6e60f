import torch

from genie.models.dynamics_state import DynamicsState
from genie.models.layers.cache import TemporalCache


def test_players_are_taken_out_and_joined_again():
    keys, values = torch.randn(2, 2, 3, 4, 6, 2, 8)
    cache = TemporalCache(keys, values, torch.tensor([1, 5, 2, 9]))
    past = DynamicsState(torch.randint(0, 9, (4, 6)), cache)
    assert past.time.tolist() == [1, 5, 2, 9]
    chosen = past.select(torch.tensor([3, 0]))
    assert chosen.time.tolist() == [9, 1]
    assert torch.equal(chosen.tokens, past.tokens[[3, 0]])
    joined = DynamicsState.concatenate([past.select(torch.tensor([row])) for row in range(4)])
    assert torch.equal(joined.tokens, past.tokens)
    assert torch.equal(joined.cache.keys, cache.keys)
