"""Losses of the tokenizer beside the error of pixels."""
