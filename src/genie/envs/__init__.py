"""A world as a Gymnasium environment: one game (`gym.py`) or a batch of them (`vector.py`).

    import gymnasium as gym, genie
    env = gym.make("genie/World-v0", world="runs/coinrun", prompt="prompt.png")
    envs = gym.make_vec("genie/World-v0", num_envs=8, world="runs/coinrun")

Both are thin adapters over `Genie.start` and `Genie.step`. A world knows pictures and latent
actions only: what counts as reward and as the end of an episode is yours to give.

Importing this package, or `genie`, makes the id known, as is the convention since Gymnasium 1.0;
so does the id "genie.envs:genie/World-v0".
"""

import gymnasium

ENV_ID = "genie/World-v0"


def register_envs() -> None:
    """Registers `genie/World-v0` with Gymnasium; doing it twice is harmless."""
    if ENV_ID not in gymnasium.registry:
        gymnasium.register(
            ENV_ID,
            entry_point="genie.envs.gym:GenieEnv",
            vector_entry_point="genie.envs.vector:GenieVectorEnv",
        )


register_envs()
