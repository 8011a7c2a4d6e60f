import torch

from genie.evaluation.protocol import rollouts


def test_rollout_plays_the_actions_in_order(game):
    actions = torch.tensor([[1, 3, 0], [2, 2, 3]])
    cells = torch.tensor([0, 5])
    ticks = []
    player = rollouts.RolloutPlayer(game.world(), on_step=lambda: ticks.append(1))
    frames = player.rollout(game.draw(cells)[:, None], actions, [0, 1])
    assert len(ticks) == 3
    assert game.look(frames).tolist() == [[1, 5, 5], [4, 7, 11]]


def test_random_actions_do_not_depend_on_batches():
    whole = rollouts.random_actions(6, 5, 40, seed=3)
    parts = [rollouts.random_actions(6, 2, 40, 3), rollouts.random_actions(6, 3, 40, 3, first=2)]
    assert torch.equal(whole, torch.cat(parts))
    assert set(whole.flatten().tolist()) == set(range(6))
    assert not torch.equal(whole, rollouts.random_actions(6, 5, 40, seed=4))


def test_seeds_do_not_depend_on_batches():
    whole = rollouts.clip_seeds(1, 0, 5)
    assert whole == rollouts.clip_seeds(1, 0, 2) + rollouts.clip_seeds(1, 2, 3)
    assert len(set(whole)) == 5


def test_held_actions(game):
    prompts = game.draw(torch.tensor([0, 5, 10]))[:, None]
    player = rollouts.RolloutPlayer(game.world(), batch=5)
    held = player.hold_all(prompts, 2, seed=0, steps=2, same_noise=True)
    assert held.shape == (3, 4, 2, 2, 16, 16, 3)
    cells = game.look(held)
    assert cells[1, :, 0].tolist() == [[5, 5], [6, 7], [4, 7], [9, 13]]
    assert torch.equal(cells[:, :, 0], cells[:, :, 1])


def test_held_actions_share_their_noise_and_batches_do_not_matter(game):
    world = game.world(obeys=False, noise=True)
    prompts = game.draw(torch.tensor([0, 5, 10]))[:, None]
    held, again = (
        rollouts.RolloutPlayer(world, batch).hold_all(prompts, 2, seed=0, steps=3, same_noise=True)
        for batch in (24, 7)
    )
    assert torch.equal(held, again)
    assert (held == held[:, :1]).all()
    assert not torch.equal(held[:, :, 0], held[:, :, 1])


def test_games_that_play_on_begin_with_their_prompt_as_the_tokenizer_gives_it_back(game):
    player = rollouts.RolloutPlayer(game.world())
    cells = torch.tensor([[3, 4], [9, 8], [0, 1]])
    actions = torch.tensor([[1, 1, 3], [2, 2, 2], [0, 3, 1]])
    frames = player.play_on(game.draw(cells), actions, seed=0)
    moved = [cells[:, -1]]
    for action in actions.unbind(1):
        moved.append(game.move(moved[-1], action))
    assert (game.look(frames) == torch.stack(moved, 1)).all()


def test_a_game_that_plays_on_does_not_depend_on_its_batch(game):
    prompts, actions = game.draw(torch.arange(6)[:, None]), torch.zeros(6, 5, dtype=torch.int64)
    whole, parts = (
        rollouts.RolloutPlayer(game.world(noise=True), batch).play_on(prompts, actions, 0)
        for batch in (6, 4)
    )
    assert (whole == parts).all()
