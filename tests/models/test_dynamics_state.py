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


def test_features_are_the_values_of_the_last_frame_of_each_player():
    values = torch.randn(3, 2, 4, 7, 2, 5)  # of a window of 3 frames, with one prepended token
    cache = TemporalCache(torch.zeros_like(values), values, torch.tensor([1, 5, 2, 9]))
    past = DynamicsState(torch.randint(0, 9, (4, 6)), cache)
    assert past.features.shape == (4, 6, 3 * 2 * 5)
    for player, slot in enumerate([0, 0, 1, 0]):
        mine = values[:, slot, player, 1:].permute(1, 0, 2, 3).flatten(1)
        assert torch.equal(past.features[player], mine)
