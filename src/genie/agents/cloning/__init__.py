"""Behaviour cloning from video without labels, through the latent actions of a world."""
