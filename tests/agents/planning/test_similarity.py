import torch

from genie.agents.planning.similarity import similarity


def test_a_frame_is_most_like_itself_and_less_like_what_moved_further():
    goal = torch.full((16, 16, 3), 40, dtype=torch.uint8)
    goal[4:8, 4:8] = 200
    moved = [goal.roll(shift, 1) for shift in (0, 1, 2, 8)]
    found = similarity(torch.stack(moved), goal)
    assert torch.isclose(found[0], torch.tensor(1.0))
    assert found[0] > found[1] > found[2] > found[3]


def test_brightness_is_no_likeness():
    goal = torch.randint(256, (8, 8, 3), generator=torch.Generator().manual_seed(0))
    bright = torch.full((1, 8, 8, 3), 250, dtype=torch.uint8)
    bright[0, 0, 0] = 249
    assert similarity(bright, goal.to(torch.uint8)).abs() < 0.2
