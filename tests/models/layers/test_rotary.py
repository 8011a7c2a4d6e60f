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
