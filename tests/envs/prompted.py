"""Pictures that episodes start from, and what is seen of an episode."""

import numpy as np

PROMPTS = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


def played(env, actions, seed=None):
    frames = [env.reset(seed=seed)[0]]
    return np.stack(frames + [env.step(action)[0] for action in actions])
