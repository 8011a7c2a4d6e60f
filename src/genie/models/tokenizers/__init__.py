"""Tokenizers: frames to tokens and back, by one of several networks."""
