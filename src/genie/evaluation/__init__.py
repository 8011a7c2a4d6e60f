"""How good a world is and how well it follows its actions, on held-out video, beside baselines."""
