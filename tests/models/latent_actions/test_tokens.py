import copy
from dataclasses import replace

import pytest
import torch
from grey_tokenizer import GreyTokenizer
from moving import moving_block

from genie import Genie
from genie.core.config import UserError
from genie.models.latent_actions.tokens import TokenActionConfig
from genie.models.layers.transformer import TransformerConfig
from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizers.transformer import VideoTokenizerConfig
from small import STACK, TINY

LAYERS = TransformerConfig(layers=1, width=32, heads=4, window=2)
CONFIG = TokenActionConfig(patch=4, encoder=LAYERS, decoder=LAYERS, dim=4)
ALONE = TransformerConfig(layers=1, width=16, heads=2, window=1, spatial_attention=False)
TOKENIZER = VideoTokenizerConfig(
    patch=4, encoder=ALONE, decoder=ALONE, quantizer=VQConfig(codes=16, dim=8)
)
WORLD = {**TINY, "actions": {"kind": "tokens", "patch": 8, "encoder": STACK, "decoder": STACK}}


def blinking(count: int, seed: int) -> torch.Tensor:
    """A grey wall that one of two actions makes brighter and the other darker."""
    generator = torch.Generator().manual_seed(seed)
    steps = 2 * torch.randint(0, 2, (count, 2), generator=generator) - 1
    grey = 120 + 40 * torch.cat([torch.zeros(count, 1), steps], dim=1).cumsum(dim=1)
    return grey.to(torch.uint8)[..., None, None, None].repeat(1, 1, 16, 16, 3)


@pytest.mark.parametrize("difference", [False, True])
def test_it_tells_what_was_done_from_tokens(difference):
    torch.manual_seed(0)
    config = replace(CONFIG, patch=8, difference=difference, continuous_fraction=0.7)
    tokenizer, steps = GreyTokenizer(), 80
    model = config.build_for(tokenizer, (16, 16), 2).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(steps):
        loss, _ = model.loss(blinking(12, seed=step), step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    frames = blinking(64, seed=999)
    codes = model.eval().infer(frames)
    own = model.reconstruct(frames, codes).float() - frames[:, 1:]
    other = model.reconstruct(frames, 1 - codes).float() - frames[:, 1:]
    assert own.square().mean() < 0.1 * other.square().mean()
    assert tokenizer.levels.grad is None


def test_what_tokens_do_not_show_changes_no_action():
    torch.manual_seed(0)
    model = CONFIG.build_for(TOKENIZER.build((16, 16)).eval(), (16, 16), 4)
    frames, _ = moving_block(2)
    shaded = frames - (frames > 100).to(torch.uint8)
    assert torch.equal(model.reads[0].encode(frames), model.reads[0].encode(shaded))
    assert torch.equal(model._latents(frames), model._latents(shaded))


def test_the_tokenizer_is_the_world_s_and_no_part_of_the_model(tmp_path):
    world = Genie(WORLD)
    assert world.actions.reads == (world.tokenizer,)
    assert not [name for name in world.actions.state_dict() if "tokenizer" in name]
    assert {p.dtype for p in world.to(torch.bfloat16).tokenizer.parameters()} == {torch.bfloat16}
    world = world.float().eval()
    alone = copy.deepcopy(world.actions).double()  # as an average of the weights is
    assert {p.dtype for p in alone.reads[0].parameters()} == {torch.float64}
    assert {p.dtype for p in world.tokenizer.parameters()} == {torch.float32}
    world.save_pretrained(tmp_path)
    frames, _ = moving_block(2)
    again = Genie.from_pretrained(tmp_path, device="cpu")
    assert torch.equal(again.infer_actions(frames), world.infer_actions(frames))


def test_without_a_world_there_are_no_tokens():
    with pytest.raises(UserError, match="needs a tokenizer"):
        CONFIG.build((16, 16), 4)
    with pytest.raises(UserError, match="spatial_attention"):
        replace(CONFIG, encoder=ALONE)
