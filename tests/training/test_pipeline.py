import torch

from genie.training.pipeline import train
from genie.world import Genie


def test_videos_become_a_world(store, small_world, schedule, console, tmp_path):
    from dataclasses import replace
    schedule = replace(schedule, picture_every=5)
    out = train(store, tmp_path / "run", world=small_world, schedule=schedule, console=console)
    print(console.file.getvalue())
    world = Genie.from_pretrained(out, device="cpu")
