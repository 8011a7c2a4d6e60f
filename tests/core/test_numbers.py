import numpy as np
import pytest
import torch

from genie.core.config import UserError
from genie.core.numbers import seed_of, seeds_of, whole_number, whole_numbers

UNSIGNED = [np.uint8, np.uint16, np.uint32, np.uint64]


@pytest.mark.parametrize("kind", [*UNSIGNED, np.int8, np.int64, int])
def test_whole_numbers_of_any_kind_are_read(kind):
    assert whole_number(kind(3), "x") == 3
    for values in ([kind(3), kind(1)], np.array([3, 1], kind), (kind(3), 1)):
        found = whole_numbers(values, "x")
        assert (found.tolist(), found.dtype) == ([3, 1], np.int64)
    tensor = torch.tensor([3, 1], dtype=torch.uint8)
    assert whole_numbers(tensor, "x").tolist() == [3, 1]
    assert whole_numbers(list(tensor), "x").tolist() == [3, 1]


def test_seeds_count_up_or_are_given_one_by_one():
    assert seeds_of(5, 3).tolist() == [5, 6, 7]
    assert seeds_of(np.array([5, 1], np.uint16), 2).tolist() == [5, 1]
    assert seeds_of(2**63 - 2, 2).tolist() == [2**63 - 2, 2**63 - 1]
    for wrong in (-1, [-1, 0], 2**63 - 1):
        with pytest.raises(UserError, match=r"0 to 2\*\*63 - 1"):
            seeds_of(wrong, 2)
    with pytest.raises(UserError, match="got 3 seeds for 2 players"):
        seeds_of([1, 2, 3], 2)


def test_one_seed_is_not_negative():
    assert seed_of(np.uint64(2**63 - 1)) == 2**63 - 1
    with pytest.raises(UserError, match=r"got -1$"):
        seed_of(-1)
