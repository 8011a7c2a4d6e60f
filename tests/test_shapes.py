"""What is checked while tests run: shapes, and plain types without them."""

import inspect
from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, TypeCheckError
from torch import Tensor

import shapes
from genie.core.config import require
from genie.models.masking import sample_mask

check = jaxtyping.jaxtyped(typechecker=shapes.checked)


def test_functions_of_genie_are_checked():
    with pytest.raises(BeartypeCallHintViolation):
        require(True, 3)
    with pytest.raises(TypeCheckError):
        sample_mask(torch.zeros(2, 3), 0.5)
    assert inspect.signature(require).parameters["message"].annotation == "str"


def test_plain_types_are_checked_going_in_and_coming_out():
    @check
    def doubled(x: "int", *more: "int", by: "float" = 2) -> "int":
        return x * by

    assert doubled(3, 4) == 6
    for arguments, options in (
        ((1.5,), {}),
        ((1, 1.5), {}),
        ((1,), {"by": "2"}),
        ((1,), {"by": 0.5}),
    ):
        with pytest.raises(BeartypeCallHintViolation):
            doubled(*arguments, **options)


def test_lengths_must_agree_within_a_call():
    @check
    def added(x: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return x + y

    assert added(torch.ones(2), torch.ones(2)).tolist() == [2, 2]
    with pytest.raises(TypeCheckError):
        added(torch.ones(2), torch.ones(1))


def test_lengths_must_agree_after_calls_in_which_they_did():
    @check
    def joined(x: Float[Tensor, " n"], others: "list[Float[Tensor, ' n']]") -> Tensor:
        return torch.stack([x, *others])

    for _ in range(2):
        joined(torch.ones(2), [torch.ones(2)])
    with pytest.raises(TypeCheckError):
        joined(torch.ones(2), [torch.ones(3)])
    with pytest.raises(TypeCheckError):
        joined(torch.ones(2, dtype=torch.int64), others=[torch.ones(2)])


def test_a_result_is_checked_though_its_arguments_were_seen():
    results = iter([torch.ones(2), torch.ones(2), torch.ones(3), torch.ones(2)])

    @check
    def following(x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return next(results)

    for _ in range(2):
        following(torch.ones(2))
    with pytest.raises(TypeCheckError, match="return value"):
        following(torch.ones(2))
    following(torch.ones(2))
    assert next(results, None) is None


def test_shapes_inside_of_other_types_are_found():
    @check
    def first(pair: "tuple[Float[Tensor, ' n'], list[Float[Tensor, ' n']] | None]") -> "Tensor":
        return pair[0]

    first((torch.ones(2), None))
    with pytest.raises(TypeCheckError):
        first((torch.ones(2), [torch.ones(3)]))


def test_names_for_type_checkers_only_allow_anything():
    @check
    def kept(x: "Nowhere") -> "Iterator[int]":
        yield x

    assert list(kept("anything")) == ["anything"]
