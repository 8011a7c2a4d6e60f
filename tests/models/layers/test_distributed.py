import pytest
import torch

from genie.models.layers.distributed import (
    count_over_ranks,
    mean_over_ranks,
    mean_with_gradients,
    rand_rows,
    randint_rows,
    randn_rows,
    rows_over_ranks,
    sum_over_ranks,
)


@pytest.fixture
def two_processes(monkeypatch):
    """This one is the second; the first has values that are 5, or rows that are 5."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda mine: mine.add_(5))


@pytest.mark.parametrize("function", [sum_over_ranks, mean_over_ranks])
def test_alone_a_tensor_stays_as_it_is(function):
    values = torch.tensor([1.0, 3.0])
    function(values)
    assert values.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("function", "expected"), [(sum_over_ranks, [6, 8]), (mean_over_ranks, [3, 4])]
)
def test_several_processes_have_the_same(function, expected, two_processes):
    values = torch.tensor([1.0, 3.0])
    function(values)
    assert values.tolist() == expected


def test_gradients_reach_what_other_processes_put_in(two_processes):
    values = torch.tensor([1.0, 3.0], requires_grad=True)
    mean = mean_with_gradients(values)
    mean.sum().backward()
    assert mean.tolist() == [3, 4]
    assert values.grad.tolist() == [3, 3]  # of the others 5, of this one 1


def test_rows_of_all_processes(monkeypatch, two_processes):
    def all_reduce(mine):
        assert mine.tolist() == [[0, 0], [1, 2]], "the first row is of the other process"
        mine[0] = 7

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    own = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert rows_over_ranks(own, torch.tensor([0, 2])).tolist() == [[7, 7], [1, 2]]
    assert count_over_ranks(2) == 4


@pytest.mark.parametrize(
    "draw",
    [
        lambda rows: rand_rows(rows, 3, device=torch.device("cpu")),
        lambda rows: randint_rows(torch.zeros(rows, 3, dtype=torch.int64), 100),
        lambda rows: randn_rows(torch.zeros(rows, 3)),
    ],
)
def test_a_process_has_its_part_of_the_random_numbers_of_all(draw, monkeypatch):
    torch.manual_seed(1)
    whole = draw(4)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        torch.manual_seed(1)
        parts.append(draw(2))
    assert torch.equal(torch.cat(parts), whole)
