import math

import torch

from genie.models.layers.rotary import rotary, rotate


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


def test_angles_are_those_of_64_bit_arithmetic():
    """Products that wrap at 32 bits are the same turns."""
    positions = torch.tensor([0, 1, 6, 7, 1_000_003, 2**31 - 1])
    cos, sin = rotary(positions, 8)
    for pair in range(4):
        per_frame = round(10_000.0 ** (-pair / 4) / (2 * math.pi) * 2**32)
        turns = (positions.double() * per_frame) % 2**32
        angles = turns.float() * (2 * math.pi / 2**32)
        torch.testing.assert_close(cos[:, pair], angles.cos(), atol=1e-6, rtol=0)
        torch.testing.assert_close(sin[:, pair], angles.sin(), atol=1e-6, rtol=0)
