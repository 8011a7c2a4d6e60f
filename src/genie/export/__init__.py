"""Worlds that leave Python: graphs for ONNX Runtime."""
