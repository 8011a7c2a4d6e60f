from pathlib import Path

import pytest
import torch

from genie.models import tokenizers
from genie.models.tokenizers.registry import BACKBONES
from genie.world.config import GenieConfig
from recipes import module_of_recipe

NO_BACKBONES = {"__init__", "base", "registry"}


def test_each_file_is_a_backbone_of_its_name():
    files = {path.stem for path in Path(tokenizers.__file__).parent.glob("*.py")}
    assert files - NO_BACKBONES == set(BACKBONES)
    assert {name: cls.__module__.rpartition(".")[2] for name, cls in BACKBONES.items()} == {
        name: name for name in BACKBONES
    }


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_tells_its_name_first(name):
    assert BACKBONES[name]().backbone == name


def test_the_default_is_the_paper_s():
    assert next(iter(BACKBONES)) == GenieConfig().tokenizer.backbone == "transformer"


def test_the_recipe_of_the_documentation_makes_a_tokenizer():
    config = module_of_recipe("Add a tokenizer backbone").LinearTokenizerConfig(patch=4)
    tokenizer = config.build((16, 18)).train()
    frames = torch.randint(0, 256, (2, 3, 16, 18, 3), dtype=torch.uint8)
    optimizer, losses = torch.optim.Adam(tokenizer.parameters(), lr=1e-2), []
    for _ in range(20):
        loss, _ = tokenizer.loss(frames)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    tokens = tokenizer.encode(frames)
    assert tokens.shape == (2, 3, 20)
    frame, cache = tokenizer.decode_step(tokens[:, 2], tokenizer.prefill(tokens[:, :2]))
    assert torch.equal(frame, tokenizer.decode(tokens)[:, 2])
    assert cache.time.tolist() == [3, 3]
