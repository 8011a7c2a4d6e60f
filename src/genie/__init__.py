"""Genie: from a folder of unlabelled videos to a world that can be played."""
