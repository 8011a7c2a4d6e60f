"""Worlds that leave Python: graphs for ONNX Runtime, and sites that play them in a tab."""
