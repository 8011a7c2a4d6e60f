import torch

from genie.models.layers.cache import TemporalCache


def cache(time: list[int], slots: int = 3) -> TemporalCache:
    keys = torch.zeros(2, slots, len(time), 4, 2, 8)
    return TemporalCache(keys, keys.clone(), torch.tensor(time))


def test_append_evicts_the_oldest_frame_and_leaves_the_old_cache_alone():
    ring = cache([0])
    for frame in range(5):
        new = torch.full((2, 1, 4, 2, 8), float(frame + 1))
        before = ring.keys.clone()
        longer = ring.append(new, new)
        assert torch.equal(ring.keys, before)
        ring = longer
    assert sorted(ring.keys[0, :, 0, 0, 0, 0].tolist()) == [3.0, 4.0, 5.0]
    assert ring.time.tolist() == [5]


def test_players_at_different_frames_write_to_their_own_slots():
    new = torch.ones(2, 2, 4, 2, 8)
    ring = cache([0, 2]).append(new, new)
    assert ring.keys[0, :, :, 0, 0, 0].T.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert ring.seen.T.tolist() == [[True, False, False], [True, True, True]]


def test_select_and_concatenate_are_inverse():
    ring = cache([1, 5])
    ring.keys.normal_()
    rows = [ring.select(torch.tensor([row])) for row in range(2)]
    joined = TemporalCache.concatenate(rows)
    assert torch.equal(joined.keys, ring.keys)
    assert torch.equal(joined.time, ring.time)
