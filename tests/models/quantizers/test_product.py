from dataclasses import replace

import pytest
import torch
from untrained_tokenizer import CONFIG, learned

from genie import Genie
from genie.core.config import UserError
from genie.models.layers.transformer import TransformerConfig
from genie.models.quantizers.fsq import FSQConfig
from genie.models.quantizers.lfq import LFQConfig
from genie.models.quantizers.product import ProductQuantizer, codes_per_book
from small import TINY

CONFIGS = {
    "lfq": LFQConfig(codes=256, codebooks=2),
    "fsq": FSQConfig(codes=64**2, codebooks=2),
}


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


def test_a_token_is_the_product_of_the_codes_of_its_parts(config):
    quantizer = config.build().eval()
    assert isinstance(quantizer, ProductQuantizer)
    assert (quantizer.size, len(quantizer.parts)) == (config.codes, 2)
    features = torch.randn(5, 40, quantizer.dim)
    vectors, codes, _ = quantizer(features)
    assert 0 <= codes.min() <= codes.max() < config.codes
    assert torch.equal(quantizer.encode(features), codes)
    torch.testing.assert_close(quantizer.decode(codes), vectors)
    half, size = quantizer.dim // 2, quantizer.parts[0].size
    assert torch.equal(codes % size, quantizer.parts[0].encode(features[..., :half]))
    assert torch.equal(codes // size, quantizer.parts[1].encode(features[..., half:]))


def test_every_part_gets_a_gradient_of_its_own(config):
    quantizer = config.build().train()
    features = torch.randn(50, quantizer.dim, requires_grad=True)
    vectors, _, loss = quantizer(features)
    (vectors.square().sum() + loss).backward()
    assert (features.grad.abs().sum(dim=0) > 0).all()


def test_it_learns_as_part_of_a_tokenizer(config):
    torch.manual_seed(0)
    alone = TransformerConfig(layers=1, width=32, heads=2, window=1, spatial_attention=False)
    sizes = replace(CONFIG, encoder=alone, decoder=alone, quantizer=config)
    gain, used = learned(sizes.build((16, 16)), 50)
    assert gain > 10
    assert used > 1


def test_a_world_with_it_is_saved_and_loaded(config, tmp_path):
    quantizer = {"kind": config.kind, "codes": config.codes, "codebooks": 2}
    world = Genie({**TINY, "tokenizer": {**TINY["tokenizer"], "quantizer": quantizer}}).eval()
    world.save_pretrained(tmp_path)
    frames = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    again = Genie.from_pretrained(tmp_path, device="cpu")
    assert torch.equal(again.generate(frames, [0, 1]), world.generate(frames, [0, 1]))


def test_sizes_that_are_no_product_say_what_would_be():
    assert codes_per_book(1024, 2) == 32
    with pytest.raises(UserError, match="codebooks: 512 codes are no product of 2 codebooks"):
        LFQConfig(codes=512, codebooks=2)
    with pytest.raises(UserError, match="codebooks: must be from 1"):
        LFQConfig(codes=512, codebooks=0)
    with pytest.raises(UserError, match="codes: FSQ has sizes"):
        FSQConfig(codes=32**2, codebooks=2)
