"""Training: three stages under Lightning, checkpoints that survive a kill, the pipeline."""
