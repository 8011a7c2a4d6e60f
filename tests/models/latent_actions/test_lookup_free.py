import pytest
import torch

from genie.core.config import UserError
from genie.models.latent_actions.lookup_free import LookupFreeActions
from genie.models.latent_actions.motion import LatentActionConfig
from genie.world.config import GenieConfig


def build(codebooks: int = 1) -> LookupFreeActions:
    torch.manual_seed(0)
    return LookupFreeActions(8, 6, codebooks, commitment_weight=0.25)


@pytest.mark.parametrize("codebooks", [1, 3])
def test_codes_are_bits_and_decode_to_what_the_decoder_got(codebooks):
    quantizer, features = build(codebooks).eval(), torch.randn(5, 7, 6)
    vectors, codes, _ = quantizer(features)
    assert torch.equal(quantizer.encode(features), codes)
    torch.testing.assert_close(quantizer.decode(codes), vectors)
    signs = quantizer.to_bits(quantizer.normalise(features)) > 0
    assert len(torch.cat([signs.flatten(0, 1), codes.flatten()[:, None]], 1).unique(dim=0)) == len(
        codes.unique()
    )
    assert quantizer.codebook.shape == (8, 6)


def test_it_learns_to_name_what_differs():
    quantizer = build()
    things = torch.randn(4, 6)
    optimizer = torch.optim.AdamW(quantizer.parameters(), lr=1e-2)
    for _ in range(150):
        features = things[torch.randint(4, (64,))] + 0.05 * torch.randn(64, 6)
        vectors, _, loss = quantizer(features)
        loss = loss + (vectors - quantizer.normalise(features)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert len(quantizer.eval().encode(things).unique()) == 4


def test_only_powers_of_two_are_actions():
    lfq = LatentActionConfig(continuous_fraction=0.0, lfq_codebooks=1)
    with pytest.raises(UserError, match="num_actions: LFQ needs a power of two, got 6"):
        GenieConfig(num_actions=6, actions=lfq)
    with pytest.raises(UserError, match="codebooks"):
        GenieConfig(
            num_actions=8, actions=LatentActionConfig(continuous_fraction=0.0, lfq_codebooks=2)
        )
