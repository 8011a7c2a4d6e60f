import torch

from genie.models.layers.modulation import ModulatedBlock
from genie.models.layers.transformer import STTransformer, TransformerConfig

CONFIG = TransformerConfig(layers=2, width=32, heads=4, window=3)


def stack() -> STTransformer:
    torch.manual_seed(0)
    return STTransformer(CONFIG, ModulatedBlock).eval()


def opened(model: STTransformer) -> STTransformer:
    for name, weight in model.named_parameters():
        if "modulation" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model


@torch.no_grad()
def test_a_new_stack_is_the_plain_one_without_the_row_of_the_action():
    model, plain = stack(), STTransformer(CONFIG).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    x = torch.randn(2, 5, 7, 32)
    torch.testing.assert_close(model(x)[:, :, 1:], plain(x[:, :, 1:]))


@torch.no_grad()
def test_only_scale_and_shift_bring_the_action_to_the_tokens():
    x = torch.randn(2, 5, 7, 32)
    other = x.clone()
    other[:, :, 0] = torch.randn(2, 5, 32)
    model = stack()
    assert torch.equal(model(x)[:, :, 1:], model(other)[:, :, 1:])
    model = opened(model)
    assert ((model(x) - model(other))[:, :, 1:].abs().amax(dim=(0, 1, 3)) > 1e-3).all()


@torch.no_grad()
def test_steps_equal_whole_clips_at_all_positions_and_at_some():
    model, x = opened(stack()), torch.randn(2, 8, 7, 32)
    whole, cache = model(x), model.prefill(x[:, :2])
    rows = torch.tensor([[3, 1], [6, 2]])
    for t in range(2, 8):
        some = model.step_without_update(x[:, t : t + 1], cache, positions=rows)[:, 0]
        torch.testing.assert_close(some, whole[:, t].take_along_dim(rows[..., None], 1))
        y, cache = model.step(x[:, t : t + 1], cache)
        torch.testing.assert_close(y[:, 0], whole[:, t])
