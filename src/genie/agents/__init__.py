"""What acts: mappers between real and latent actions, and the agents that need them."""
