"""A world that can be played: the three models as one, and what a game needs."""
