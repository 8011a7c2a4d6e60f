"""Metrics and detectors for particular kinds of games, found by their module."""
