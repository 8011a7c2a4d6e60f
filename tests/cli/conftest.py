"""A small world on disk."""

import pytest
import torch
from PIL import Image

from genie.models.dynamics import DynamicsConfig
from genie.models.layers.transformer import TransformerConfig
from genie.models.tokenizer import VideoTokenizerConfig
from genie.world.config import GenieConfig
from genie.world.genie import Genie


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The folder of a small world with a prompt, never trained."""
    small = TransformerConfig(layers=1, width=16, heads=2, window=2)
    config = GenieConfig(
        height=16,
        width=16,
        num_actions=3,
        tokenizer=VideoTokenizerConfig(patch=8, encoder=small, decoder=small),
        dynamics=DynamicsConfig(layers=1, width=16, heads=2, window=2),
    )
    folder = tmp_path_factory.mktemp("world")
    torch.manual_seed(0)
    Genie(config).save_pretrained(folder)
    (folder / "prompts").mkdir()
    Image.new("RGB", (16, 16), "teal").save(folder / "prompts" / "0.png")
    return folder
