import numpy as np
import pytest
import torch
from untrained import CONFIG, stirred

from genie.core.config import UserError
from genie.world.action_mapper import ActionMapper, MapperConfig, latent_actions_hash
from genie.world.compress import compress
from genie.world.genie import Genie
from genie.world.prompts import save_prompts
from genie.world.replay import world_hash

NAMES = ("left", "right")


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    folder, world = tmp_path_factory.mktemp("compress"), stirred(CONFIG)
    world.save_pretrained(folder)
    save_prompts([np.full((16, 16, 3), 90, np.uint8)], folder)
    config = MapperConfig("dictionary", NAMES, 4, latent_actions_hash(world), 28, width=8)
    ActionMapper(config).save_pretrained(folder / "mapper")
    (folder / "reward").mkdir()
    (folder / "reward" / "config.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def after(before, tmp_path_factory):
    return compress(before, tmp_path_factory.mktemp("small"))


def test_the_same_frames_keep_their_latent_actions_and_nearly_their_tokens(before, after):
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (8, 6, 16, 16, 3), generator=generator, dtype=torch.uint8)
    one, two = (Genie.from_pretrained(folder, device="cpu") for folder in (before, after))
    assert torch.equal(one.infer_actions(frames), two.infer_actions(frames))
    same = one.tokenizer.encode(frames) == two.tokenizer.encode(frames)
    assert same.float().mean() > 0.9
    assert world_hash(one) != world_hash(two)
    assert {weight.dtype for weight in two.parameters()} == {torch.float32}


def test_it_is_smaller_and_takes_along_what_is_still_true(before, after):
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (before, after)]
    assert sizes[1] < 0.6 * sizes[0]
    assert ActionMapper.from_pretrained(after, Genie.from_pretrained(after, device="cpu"))
    assert (after / "prompts" / "0.png").is_file()
    assert not (after / "reward").exists()


def test_what_cannot_be_compressed_is_refused(before, after, tmp_path):
    with pytest.raises(UserError, match="is not empty"):
        compress(before, after)
    with pytest.raises(UserError, match="already"):
        compress(after, tmp_path / "again")
