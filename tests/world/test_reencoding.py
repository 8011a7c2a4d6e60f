import torch
from untrained import CONFIG, frames, stirred

from genie.world.reencoding import reencoded


def test_only_games_whose_frame_is_due_get_the_tokens_of_their_picture():
    tokenizer, pictures = stirred(CONFIG).tokenizer, frames(2, 1)
    sampled = torch.randint(0, tokenizer.vocabulary, (2, tokenizer.tokens_per_frame))
    tokens = reencoded(tokenizer, sampled, pictures[:, 0], torch.tensor([4, 6]), 3)
    assert torch.equal(tokens[0], sampled[0])
    assert torch.equal(tokens[1], tokenizer.encode(pictures)[1, 0])
    assert not torch.equal(tokens[1], sampled[1])


def test_nothing_is_encoded_where_it_is_off_or_no_frame_is_due():
    tokenizer, pictures = stirred(CONFIG).tokenizer, frames(2, 1)[:, 0]
    sampled = torch.randint(0, tokenizer.vocabulary, (2, tokenizer.tokens_per_frame))
    assert reencoded(tokenizer, sampled, pictures, torch.tensor([0, 6]), 0) is sampled
    assert reencoded(tokenizer, sampled, pictures, torch.tensor([1, 2]), 4) is sampled
