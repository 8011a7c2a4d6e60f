import pytest
import torch

from genie.models.layers.distributed import mean_over_ranks, same_on_all_ranks, sum_over_ranks


@pytest.fixture
def two_processes(monkeypatch):
    """Stands in for a second process, whose values are 5 larger than 0."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda mine: mine.add_(5))
    monkeypatch.setattr(torch.distributed, "broadcast", lambda mine, src: mine.fill_(src + 7))


@pytest.mark.parametrize("function", [sum_over_ranks, mean_over_ranks, same_on_all_ranks])
def test_alone_a_tensor_stays_as_it_is(function):
    values = torch.tensor([1.0, 3.0])
    function(values)
    assert values.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("function", "expected"),
    [(sum_over_ranks, [6, 8]), (mean_over_ranks, [3, 4]), (same_on_all_ranks, [7, 7])],
)
def test_several_processes_have_the_same(function, expected, two_processes):
    values = torch.tensor([1.0, 3.0])
    function(values)
    assert values.tolist() == expected
