"""Quantizers: layers that map features to codes and codes to vectors, one in each file."""
