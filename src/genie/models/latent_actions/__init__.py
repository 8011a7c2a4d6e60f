"""Latent action models: the action between two frames, by one of several networks."""
