"""A world as a Gymnasium environment."""
