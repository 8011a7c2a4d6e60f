import torch
from torch.nn.functional import scaled_dot_product_attention

from genie.models.layers.attention import _attend, causal_window_mask
from genie.models.masking import two_stream_mask


def test_mask_lets_a_frame_see_itself_and_its_window():
    mask = causal_window_mask(4, 2, torch.device("cpu"))
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    assert mask.int().tolist() == expected


def test_plain_products_equal_the_library_s_attention():
    here = torch.device("cpu")
    for mask in (causal_window_mask(7, 3, here), two_stream_mask(5, 3, here)):
        q, k, v = torch.randn(3, 2, 4, 2, len(mask), 8)
        expected = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        torch.testing.assert_close(_attend(q, k, v, mask), expected)
