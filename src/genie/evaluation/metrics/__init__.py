"""What is measured, each figure beside its baselines."""
