from dataclasses import replace

import torch

from genie.training.joint import JointModel
from genie.world.genie import Genie


def test_neither_loss_reaches_the_other_model(store, small_world):
    torch.manual_seed(0)
    actions = replace(small_world.actions, continuous_fraction=0)
    world = Genie(replace(small_world, actions=actions))
    frames = torch.from_numpy(store.windows([0, 5], 4))
    tokens = world.tokenizer.encode(frames)
    joint = JointModel(world.actions, world.dynamics)
    torch.manual_seed(1)
    loss, logs = joint.loss(tokens, frames, progress=0.7)
    loss.backward()
    together = {name: p.grad.clone() for name, p in joint.named_parameters() if p.grad is not None}
    joint.zero_grad()
    torch.manual_seed(1)
    alone = world.actions.loss(frames, 0.7)[0]
    alone.backward()
    assert {"masked_cross_entropy", "action_psnr"} <= set(logs)
    for name, parameter in world.actions.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, together[f"actions.{name}"])
    assert any(name.startswith("dynamics") for name in together)
