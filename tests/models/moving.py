"""A world of one block, whose moves a latent action model must tell apart."""

import torch


def moving_block(count: int, frames: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright 4x4 block that one of four actions moves by 4 pixels, never over the edge."""
    generator = torch.Generator().manual_seed(seed)
    moves = torch.tensor([[-4, 0], [4, 0], [0, -4], [0, 4]])
    actions = torch.zeros(count, frames - 1, dtype=torch.int64)
    video = torch.full((count, frames, 16, 16, 3), 20, dtype=torch.uint8)
    for clip in range(count):
        place = torch.randint(0, 4, (2,), generator=generator) * 4
        for t in range(frames):
            y, x = place.tolist()
            video[clip, t, y : y + 4, x : x + 4] = 230
            if t + 1 < frames:
                inside = ((place + moves >= 0) & (place + moves <= 12)).all(dim=1).float()
                actions[clip, t] = torch.multinomial(inside, 1, generator=generator)
                place = place + moves[actions[clip, t]]
    return video, actions
