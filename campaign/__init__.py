"""The reliability campaign: attacks on the whole program, counted. `make campaign` runs it."""
