import numpy as np

from genie.agents.experts.runner import LEFT_UP, RIGHT, RIGHT_UP, Runner


def test_it_runs_and_jumps_and_steps_back_from_what_does_not_move():
    runner, moving = Runner(0), np.random.default_rng(0)
    frames = np.zeros((1, 16, 16, 3), np.uint8)
    free = [
        int(runner(moving.integers(256, size=frames.shape).astype(np.uint8))[0]) for _ in range(60)
    ]
    assert set(free) == {RIGHT, RIGHT_UP}
    stuck = [int(runner(frames)[0]) for _ in range(40)]
    assert RIGHT_UP in stuck[:6]
    assert LEFT_UP in stuck


def test_it_plays_another_number_of_games():
    runner = Runner(0)
    assert len(runner(np.zeros((3, 8, 8, 3), np.uint8))) == 3
    assert len(runner(np.zeros((2, 8, 8, 3), np.uint8))) == 2
