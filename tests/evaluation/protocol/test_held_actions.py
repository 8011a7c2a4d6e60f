import torch

from genie.data.clips import ClipBatches, select_clips
from genie.evaluation.protocol.held_actions import HeldActionGames
from genie.evaluation.protocol.rollouts import RolloutPlayer, clip_seeds


def frames_of(frames):
    return frames[:, 1:]


def held(world, measures=None):
    measures = measures or {"frames": frames_of}
    return HeldActionGames(RolloutPlayer(world, batch=4), measures, steps=5, seed=0)


def prompts_of(store, split, count):
    starts = select_clips(store, split, 2, count, 0)
    return ClipBatches(store, starts, 2, 4, torch.device("cpu"))


class Counted:
    """A world that counts the games that it plays a step of."""

    def __init__(self, world):
        self.world, self.played = world, 0

    def __getattr__(self, name):
        return getattr(self.world, name)

    def step(self, state, action, sampling=None):
        self.played += len(action)
        return self.world.step(state, action, sampling)


@torch.no_grad()
def test_games_are_those_of_plain_rollouts(real_world, game):
    store, world = game.store(episodes=20), real_world.eval()
    games = held(world)
    prompts = prompts_of(store, "val", 7)
    actions = torch.tensor([0, 1, 2, 2, 1, 0, 1])
    starts = select_clips(store, "val", 2, 7, 0)
    (real,) = ClipBatches(store, starts, 2, 7, torch.device("cpu"))
    plain = RolloutPlayer(world).rollout(real, actions[:, None].expand(-1, 5), clip_seeds(0, 0, 7))
    assert torch.equal(games.hold("frames", prompts, actions), plain)
    # Once more, half of them known by now and in other batches.
    assert torch.equal(games.hold("frames", prompts, 2)[2:4], plain[2:4])
    alone = RolloutPlayer(world).rollout(real, torch.full((7, 5), 2), clip_seeds(0, 0, 7))
    assert torch.equal(games.hold("frames", prompts, 2), alone)
    other = RolloutPlayer(world).rollout(real, torch.full((7, 5), 2), clip_seeds(1, 0, 7))
    assert not torch.equal(alone, other)


def test_a_measure_gets_the_prompt_as_the_tokenizer_gives_it_back(game):
    world, store, seen = game.world(), game.store(), []
    world.tokenizer.decode = lambda tokens: 255 - game.draw(tokens.argmax(-1))
    games = held(world, {"frames": lambda frames: seen.append(frames) or frames_of(frames)})
    prompts = prompts_of(store, "val", 3)
    assert games.hold("frames", prompts, 1).shape == (3, 5, 16, 16, 3)
    (real,) = prompts
    assert torch.equal(seen[0][:, :2], 255 - real)


def test_every_game_is_played_once_and_measured_by_all(game):
    world, store = Counted(game.world()), game.store(episodes=20)
    measures = {
        "frames": frames_of,
        "bright": lambda frames: frames_of(frames).float().mean((2, 3, 4)),
    }
    games = held(world, measures)
    prompts, ticks = prompts_of(store, "val", 6), []
    games.player.on_step = lambda: ticks.append(1)
    frames = games.hold("frames", prompts, 1)
    assert (world.played, len(ticks)) == (6 * 5, 2 * 5)
    bright = games.hold("bright", prompts, 1)
    assert (world.played, len(ticks)) == (6 * 5, 2 * 5)
    torch.testing.assert_close(bright, frames.float().mean((2, 3, 4)))
    games.hold("frames", prompts, torch.tensor([1, 1, 0, 1, 1, 2]))
    assert world.played == 8 * 5
    # The same number in another split is another game.
    games.hold("frames", prompts_of(store, "train", 1), 1)
    assert world.played == 9 * 5


def test_streams_of_random_actions(game):
    games = held(game.world())
    prompts = prompts_of(game.store(episodes=200), "val", 100)
    sampled = games.random_actions(prompts, 3)
    assert sampled.unique().tolist() == [0, 1, 2, 3]
    assert torch.equal(sampled, games.random_actions(prompts, 3))
    assert not torch.equal(sampled, games.random_actions(prompts, 5))
