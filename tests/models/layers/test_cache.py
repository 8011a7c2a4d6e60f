import torch

from genie.models.layers.cache import DecoderCache, TemporalCache


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


def test_caches_of_a_decoder_are_joined_and_parted_by_player():
    whole = DecoderCache((torch.randn(2, 1, 3, 4), torch.randn(1, 5, 3)), torch.tensor([4, 5, 6]))
    parts = [whole.select(torch.tensor([player])) for player in range(3)]
    assert [part.time.tolist() for part in parts] == [[4], [5], [6]]
    assert [each.shape for each in parts[1].tensors] == [(2, 1, 1, 4), (1, 5, 1)]
    again = DecoderCache.concatenate(parts)
    assert torch.equal(again.time, whole.time)
    assert all(torch.equal(*pair) for pair in zip(again.tensors, whole.tensors, strict=True))


def test_a_cache_of_nothing_counts_frames():
    nothing = [DecoderCache((), torch.tensor([time])) for time in (3, 1)]
    assert DecoderCache.concatenate(nothing).time.tolist() == [3, 1]
    assert DecoderCache.concatenate(nothing).tensors == ()
