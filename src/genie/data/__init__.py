"""Videos in and out, the clip store, the sampler, and the two commands that fill them."""
