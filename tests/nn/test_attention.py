import torch
from torch.nn.functional import scaled_dot_product_attention

from genie.dynamics import two_stream_mask
from genie.nn.attention import TemporalCache, _attend, causal_window_mask, rotary, rotate


def cache(time: list[int], slots: int = 3) -> TemporalCache:
    keys = torch.zeros(2, slots, len(time), 4, 2, 8)
    return TemporalCache(keys, keys.clone(), torch.tensor(time))


def test_mask_lets_a_frame_see_itself_and_its_window():
    mask = causal_window_mask(4, 2, torch.device("cpu"))
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    assert mask.int().tolist() == expected


def test_rotation_depends_on_distance_only_even_after_a_million_frames():
    torch.manual_seed(0)
    query, key = torch.randn(1, 16), torch.randn(1, 16)

    def score(i: int, j: int) -> float:
        a, b = (
            rotate(x, rotary(torch.tensor([n]), x.shape[-1])) for x, n in ((query, i), (key, j))
        )
        return (a * b).sum().item()

    near = score(5, 2)
    assert abs(score(1_000_005, 1_000_002) - near) < 1e-4
    assert abs(score(5, 3) - near) > 1e-3


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


def test_plain_products_equal_the_library_s_attention():
    here = torch.device("cpu")
    for mask in (causal_window_mask(7, 3, here), two_stream_mask(5, 3, here)):
        q, k, v = torch.randn(3, 2, 4, 2, len(mask), 8)
        expected = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        torch.testing.assert_close(_attend(q, k, v, mask), expected)
