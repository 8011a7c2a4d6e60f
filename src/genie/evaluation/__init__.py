"""How good a world is and how well it obeys: measured on held-out video, beside baselines."""
