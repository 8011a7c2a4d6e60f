"""What is played, and on which clips, for all metrics."""
