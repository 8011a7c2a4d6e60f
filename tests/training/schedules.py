"""A schedule of ten steps a stage."""

from dataclasses import replace

from genie.presets.schedule import StageConfig, TrainConfig

STAGES = ("tokenizer", "actions", "dynamics")
"""Those whose models are parts of every world."""


def small_schedule(**changes: object) -> TrainConfig:
    stage = StageConfig(steps=10, batch_size=4, clip_frames=4, learning_rate=1e-3, warmup_steps=2)
    muon = replace(stage, optimizer="muon", grad_accum_steps=2)
    stages = {"tokenizer": stage, "actions": stage, "dynamics": muon}
    fixed = {"checkpoint_steps": 3, "previews_every": 0, "log_every": 5, "accelerator": "cpu"}
    return TrainConfig(**(stages | fixed | changes))  # type: ignore[arg-type]


def finished_schedule() -> TrainConfig:
    """That of the fixture `finished`."""
    return small_schedule(previews_every=5, diagnostics_every=4)
