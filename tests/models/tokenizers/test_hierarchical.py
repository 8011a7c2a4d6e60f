import torch
from untrained_tokenizer import clips, learned

from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizers.hierarchical import HierarchicalTokenizer, HierarchicalTokenizerConfig

CONFIG = HierarchicalTokenizerConfig(
    patch=4, channels=16, residual_blocks=1, quantizer=VQConfig(codes=32, dim=8)
)


def build(size: tuple[int, int] = (16, 16)) -> HierarchicalTokenizer:
    torch.manual_seed(0)
    return CONFIG.build(size).eval()


def test_a_frame_of_64_pixels_has_64_coarse_and_256_fine_tokens():
    tokenizer = HierarchicalTokenizerConfig(channels=8).build((64, 64))
    assert (tokenizer.coarse_grid, tokenizer.fine_grid) == ((8, 8), (16, 16))
    assert (tokenizer.coarse_tokens, tokenizer.tokens_per_frame) == (64, 320)
    assert tokenizer.grid == (20, 16)


def test_coarse_tokens_see_no_fine_ones_and_fine_ones_are_given_the_coarse():
    tokenizer, frames = build(), clips(2, 2)
    tokens = tokenizer.encode(frames)
    with torch.no_grad():
        tokenizer.coarse_quantizer.codebook.neg_()
    again = tokenizer.encode(frames)
    assert (tokens[..., 4:] != again[..., 4:]).any()
    tokens = tokenizer.encode(frames)
    with torch.no_grad():
        tokenizer.quantizer.codebook.neg_()
    again = tokenizer.encode(frames)
    assert torch.equal(tokens[..., :4], again[..., :4])
    assert (tokens[..., 4:] != again[..., 4:]).any()


def test_each_resolution_decodes_by_its_own_codes():
    tokenizer = build()
    tokens = torch.randint(0, 32, (1, 1, 20))
    vectors = tokenizer.vectors(tokens)
    assert torch.equal(vectors[0, 0, :4], tokenizer.coarse_quantizer.codebook[tokens[0, 0, :4]])
    assert torch.equal(vectors[0, 0, 4:], tokenizer.quantizer.codebook[tokens[0, 0, 4:]])
    for place in (0, 4):  # a coarse one and a fine one
        other = tokens.clone()
        other[..., place] = (other[..., place] + 1) % 32
        assert not torch.equal(tokenizer.decode(tokens), tokenizer.decode(other))


def test_training_quantizes_as_encoding_does():
    tokenizer, frames = build(), clips(2, 2)
    pixels = frames.float() / 127.5 - 1
    with torch.no_grad():
        quantized = tokenizer.quantized(pixels)
    tokens = tokenizer.encode(frames)
    assert torch.equal(quantized.codes, tokens)
    torch.testing.assert_close(quantized.vectors, tokenizer.vectors(tokens))


def test_it_learns():
    gain, used = learned(build(), 40)
    assert gain > 10
    assert used > 1
