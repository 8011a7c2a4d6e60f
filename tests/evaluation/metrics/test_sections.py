import math

import numpy as np
import pytest
import torch

from genie.evaluation.metrics import formulas, sections
from genie.evaluation.protocol.clips import ClipBatches, select_clips
from genie.evaluation.protocol.rollouts import hold_actions
from genie.models.layers.pixels import MAX_PSNR


@pytest.fixture
def clips(game):
    store = game.store()
    starts = select_clips(store, "val", 9, 12, seed=0)
    return ClipBatches(store, starts, 9, 5, torch.device("cpu"))


def test_a_perfect_tokenizer(game, clips):
    found = sections.tokenizer(game.world(), clips)
    assert found["reconstruction"]["psnr"] == pytest.approx(MAX_PSNR)
    assert found["reconstruction"]["ssim"] == pytest.approx(1)
    assert found["copy_last_frame"]["psnr_moving"] < found["copy_last_frame"]["psnr_mean_error"]
    # A moving square changes two of sixteen cells; three of four actions move it.
    assert found["moving_share"] == pytest.approx(2 / 16 * 3 / 4, abs=0.02)
    codebook = found["codebook"]
    assert (codebook["used"], codebook["size"], codebook["share_used"]) == (2, 2, 1.0)
    entropy = -(1 / 16 * math.log(1 / 16) + 15 / 16 * math.log(15 / 16))
    assert codebook["perplexity"] == pytest.approx(math.exp(entropy))


def test_latent_actions_that_explain_everything(game, clips):
    found = sections.latent_actions(game.world(), clips, seed=0)
    assert found["perplexity"] == pytest.approx(4, abs=0.2)
    assert sum(found["usage"]) == pytest.approx(1)
    assert found["transitions"] == 12 * 8
    sides = found["next_frame"]
    assert sides["inferred"]["psnr"] == pytest.approx(MAX_PSNR)
    assert sides["random"]["psnr_moving"] < 20


def test_dynamics_that_need_the_right_action(game, clips):
    found = sections.dynamics(game.world(), clips, seed=0)
    assert found["inferred"] == {"cross_entropy": 0, "accuracy": 1}
    assert found["shuffled"]["cross_entropy"] > 0.5
    assert found["gain"]["low"] > 0
    assert found["gain"]["clips"] == sum(map(len, clips))
    assert found["uniform_cross_entropy"] == pytest.approx(math.log(2))


def test_measuring_the_dynamics_leaves_the_random_state_alone(game, clips):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    sections.dynamics(game.world(), clips, seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_control_of_a_world_that_obeys(game, clips):
    found = sections.rollouts(game.world(), clips, 1, (1, 4, 8), seed=0)
    assert list(found["at"]) == ["1", "4", "8"]
    at = found["at"]["4"]
    assert at["inferred"]["psnr"] == pytest.approx(MAX_PSNR)
    assert at["delta_psnr"]["mean"] > 10
    assert at["delta_psnr"]["low"] > 0
    assert at["delta_psnr_moving"]["mean"] > 10
    assert at["delta_psnr"]["mean"] == pytest.approx(
        at["inferred"]["psnr"] - at["random"]["psnr"], abs=1e-3
    )
    assert [len(curve) for curve in found["curves"].values()] == [8] * 5
    assert (found["clips"], found["episodes"]) == (12, 6)
    assert (at["delta_psnr"]["clips"], at["delta_psnr"]["episodes"]) == (12, 6)


def test_repeating_a_clip_of_an_episode_does_not_narrow_the_interval(game, clips):
    starts = clips.starts[:4]
    widths = []
    for repeats in (1, 5):
        chosen = ClipBatches(clips.store, np.tile(starts, repeats), 9, 20, clips.device)
        found = sections.rollouts(game.world(), chosen, 1, (4,), seed=0)
        psnr = found["at"]["4"]["copy_last_frame"]["psnr_interval"]
        widths.append(psnr["stderr"])
    assert widths[0] == pytest.approx(widths[1])


@pytest.mark.parametrize("noise", [False, True])
def test_control_of_a_world_that_ignores_its_actions_is_exactly_zero(game, clips, noise):
    found = sections.rollouts(game.world(obeys=False, noise=noise), clips, 2, (1, 4, 7), seed=0)
    for at in found["at"].values():
        assert at["delta_psnr"]["mean"] == at["delta_psnr"]["stderr"] == 0
        assert at["inferred"] == at["random"]
    assert found["delta_psnr_curve"] == [0] * 7


def test_rollouts_do_not_depend_on_the_batch(game, clips):
    world = game.world(noise=True)
    whole = ClipBatches(clips.store, clips.starts, 9, 12, clips.device)
    parts = [sections.rollouts(world, c, 1, (4,), seed=0)["at"]["4"] for c in (clips, whole)]
    assert parts[0]["delta_psnr"]["mean"] == pytest.approx(parts[1]["delta_psnr"]["mean"])


def test_longer_prompts_start_later(game, clips):
    found = sections.rollouts(game.world(), clips, 3, (1, 6), seed=0)
    assert found["at"]["6"]["inferred"]["psnr"] == pytest.approx(MAX_PSNR)
    assert len(found["curves"]["inferred"]) == 6


def held_buttons(game, **world):
    prompts = game.draw(torch.arange(16))[:, None]
    held = hold_actions(game.world(**world), prompts, steps=2, seed=0, batch=64)
    return sections.held_actions(held, prompts[:, -1])


def test_buttons_of_a_world_that_obeys(game):
    found = held_buttons(game)
    assert found["ratio"] > 50
    assert found["stillest_action"] == 0
    assert found["change_from_prompt"][0] == 0
    assert np.shape(found["distances"]) == (4, 4)


def test_buttons_of_a_world_that_ignores_them(game):
    assert held_buttons(game, obeys=False, noise=True)["ratio"] == pytest.approx(1)


def test_labels_that_agree():
    latent = torch.arange(400) % 4
    found = sections.supervised(latent, 3 - latent, 4, list("abcd"), seed=0, permutations=20)
    assert found["mutual_information"] == pytest.approx(math.log(4))
    assert found["share_of_true_entropy"] == pytest.approx(1)
    assert found["purity"] == 1
    assert found["most_common_true_action"] == 0.25
    assert found["chance"]["mutual_information_95"] < 0.05
    assert found["table"][0] == [0, 0, 0, 100]


def test_labels_that_have_nothing_in_common():
    generator = torch.Generator().manual_seed(0)
    latent, true = (torch.randint(4, (2000,), generator=generator) for _ in range(2))
    found = sections.supervised(latent, true, 4, list("abcd"), seed=0, permutations=50)
    assert found["mutual_information"] < found["chance"]["mutual_information"] * 3
    assert found["mutual_information"] < 0.02


def test_a_few_labels_name_latent_actions_that_agree():
    generator = torch.Generator().manual_seed(0)
    known, held_out = (torch.randint(4, (n,), generator=generator) for n in (300, 1000))
    found = sections.action_maps((known, 3 - known), (held_out, 3 - held_out), 4, 4, seed=0)
    assert [line["labels"] for line in found] == [50, 100, 200]
    assert all(line["accuracy"] == 1 for line in found)
    assert all(line["std"] == 0 for line in found)
    assert all(line["most_common"] < 0.35 for line in found)


def test_labels_name_nothing_where_nothing_agrees():
    generator = torch.Generator().manual_seed(0)
    latent, true = (torch.randint(4, (4000,), generator=generator) for _ in range(2))
    known, held_out = (latent[:2000], true[:2000]), (latent[2000:], true[2000:])
    found = sections.action_maps(known, held_out, 4, 4, seed=0)
    assert found[-1]["labels"] == 2000
    assert abs(found[-1]["accuracy"] - 0.25) < 0.05


def test_a_latent_action_without_a_label_gets_the_commonest_name():
    latent, true = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 0, 1, 1, 1])
    table = formulas.contingency(latent, true, 3, 2)
    assert formulas.action_map(table).tolist() == [0, 1, 1]
