import pytest
import torch

from genie.models.token_embedding import TokenEmbedding

TOKENS = torch.tensor([[[0, 1, 2, 3]]])
LEADING = torch.tensor([[2]])


def embedding(conditioning: str) -> TokenEmbedding:
    torch.manual_seed(0)
    return TokenEmbedding(8, (2, 2), 5, 3, 4, conditioning).requires_grad_(False)


@pytest.mark.parametrize(("conditioning", "more"), [("add", 0), ("prepend", 1), ("both", 1)])
def test_the_action_is_added_or_one_more_token(conditioning, more):
    made = embedding(conditioning)
    given = made.context_embedding(LEADING, None)
    assert given.shape == (1, 1, 4 + more, 8)
    action = made.action.weight[2] + made.level.weight[0]
    if more:
        torch.testing.assert_close(given[0, 0, 0], action)
    shift = action if made.adds else made.level.weight[0]
    expected = made.position.expand(1, 1, 4, 8) + shift
    torch.testing.assert_close(made.trim(given), expected)


def test_the_level_of_corruption_is_an_input_and_none_in_play():
    made = embedding("add")
    levels = [made.context_embedding(LEADING, None, torch.tensor([level])) for level in range(4)]
    assert torch.equal(levels[0], made.context_embedding(LEADING, None))
    assert not torch.equal(levels[0], levels[3])


@pytest.mark.parametrize("conditioning", ["add", "both"])
def test_tokens_and_their_neighbours_are_added_to_what_is_given(conditioning):
    made, beside = embedding(conditioning), torch.randn(1, 1, 4, 8)
    before = torch.randn(1, 1, 4, 8)
    given = made.context_embedding(LEADING, before)
    torch.testing.assert_close(
        made.trim(given) - made.trim(made.context_embedding(LEADING, None)), before
    )
    own = made.add_tokens(TOKENS, given, beside)
    torch.testing.assert_close(made.trim(own - given), made.token.weight[TOKENS] + beside)
    if made.prepends:
        assert torch.equal(own[:, :, 0], given[:, :, 0])
