import torch

from genie.models.copy_head import CopyHead, TokenHead

GRID, VOCABULARY, WIDTH = (3, 3), 7, 16


def head() -> CopyHead:
    torch.manual_seed(0)
    made = CopyHead(WIDTH, VOCABULARY, GRID)
    for weight in (made.drawn.weight, made.copy.weight):
        torch.nn.init.normal_(weight)
    return made.requires_grad_(False)


def test_one_number_is_added_to_the_logit_of_the_token_before():
    made, x = head(), torch.randn(5, WIDTH)
    previous = torch.tensor([0, 3, 6, 2, VOCABULARY])  # the last is masked, so nothing is copied
    added = made(x, previous) - made.linear(x)
    expected = torch.zeros(5, VOCABULARY)
    expected[range(4), previous[:4]] = made.copy(x)[:4, 0]
    torch.testing.assert_close(added, expected)


def test_copying_starts_as_likely_as_all_else_together():
    made = CopyHead(WIDTH, VOCABULARY, GRID).requires_grad_(False)
    chances = made(torch.zeros(1, WIDTH), torch.tensor([4])).softmax(dim=-1)
    torch.testing.assert_close(chances[0, 4], torch.tensor(0.5), atol=0.05, rtol=0)


def test_a_token_knows_its_nine_neighbours_of_both_frames():
    made, tokens = head(), torch.zeros(1, 1, 9, dtype=torch.int64)
    other = tokens.clone()
    other[..., 0] = 3
    near = torch.tensor([True, True, False, True, True, False, False, False, False])
    for features in (made.before, made.beside):
        differs = (features(tokens) - features(other)).abs().amax(dim=-1)[0, 0] > 1e-6
        assert torch.equal(differs, near)


def test_without_copying_there_are_no_neighbours():
    plain, tokens = TokenHead(WIDTH, VOCABULARY), torch.zeros(1, 1, 9, dtype=torch.int64)
    assert plain.before(tokens) is plain.beside(tokens) is None
    x = torch.randn(5, WIDTH)
    torch.testing.assert_close(plain(x, torch.zeros(5, dtype=torch.int64)), plain.linear(x))
