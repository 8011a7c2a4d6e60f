import av
import numpy as np
import pytest
import torch

from genie.core.config import UserError
from genie.data.images import read_image
from genie.world.action_mapper import ActionMapper, MapperConfig, latent_actions_hash
from genie.world.generate import generate
from genie.world.genie import Genie
from small import TEAL, save_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return save_world(tmp_path_factory.mktemp("world"), TEAL, num_actions=3)


def test_a_video_has_the_prompt_and_one_frame_for_each_action(world, tmp_path):
    (path,) = generate(world, actions="0,1,2,2", out=tmp_path / "new" / "clip.mp4", scale=2)
    with av.open(str(path)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 5
    assert frames[0].shape == (32, 32, 3)
    assert np.abs(frames[0].mean((0, 1)) - [0, 128, 128]).max() < 6


def test_a_png_is_one_picture_per_frame(world, tmp_path):
    paths = generate(world, actions="1 2", out=tmp_path / "f.png", scale=3)
    assert [path.name for path in paths] == ["f-0000.png", "f-0001.png", "f-0002.png"]
    assert read_image(paths[2]).shape == (48, 48, 3)
    assert np.array_equal(read_image(paths[0])[0, 0], [0, 128, 128])


def test_the_pictures_are_those_of_the_world(world, tmp_path):
    paths = generate(world, actions="1,2", out=tmp_path / "f.png", scale=1, seed=5, steps=2)
    genie = Genie.from_pretrained(world, device="cpu")
    sampling = genie.config.sampling.__class__(**{**vars(genie.config.sampling), "steps": 2})
    prompt = world / "prompts" / "0.png"
    frames = genie.generate(prompt, [1, 2], seed=5, sampling=sampling)
    assert np.array_equal(np.stack([read_image(p) for p in paths]), frames.numpy())


def test_weights_can_be_bfloat16(world, tmp_path):
    options = {"actions": "1,2", "scale": 1, "dtype": "bfloat16"}
    paths = generate(world, out=tmp_path / "f.png", **options)
    genie = Genie.from_pretrained(world, "cpu", torch.bfloat16)
    frames = genie.generate(world / "prompts" / "0.png", [1, 2])
    assert np.array_equal(np.stack([read_image(p) for p in paths]), frames.numpy())


def test_random_actions_depend_on_the_seed_only(world, tmp_path):
    def clip(name: str, seed: int) -> np.ndarray:
        paths = generate(world, frames=3, out=tmp_path / f"{name}.png", scale=1, seed=seed)
        return np.stack([read_image(path) for path in paths])

    assert np.array_equal(clip("a", 1), clip("b", 1))
    assert not np.array_equal(clip("a", 1), clip("c", 2))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"actions": "7"}, "out of range, this world has 0 to 2"),
        ({"out": "clip.avi"}, "should end in one of .mp4"),
        ({"frames": 0}, "frames: 0"),
        ({"scale": 0}, "scale: 0"),
        ({"seed": -1}, "seed: expected a whole number"),
        ({"seed": 2**64}, "seed: expected a whole number"),
        ({"steps": 0}, "steps: must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(world, tmp_path, options, sentence):
    options = {"out": tmp_path / "clip.gif"} | options
    with pytest.raises(UserError, match=sentence):
        generate(world, **options)
    assert not list(tmp_path.iterdir())


def test_names_are_played_by_the_mapper_of_the_world(world, tmp_path):
    """The game has the actions left and right, latent actions 2 and 0."""
    genie = Genie.from_pretrained(world, device="cpu")
    about = MapperConfig("dictionary", ("left", "right"), 3, latent_actions_hash(genie), 9)
    mapper = ActionMapper(about)
    mapper.counts.copy_(torch.tensor([[0, 5], [0, 0], [4, 0]]))
    mapper.save_pretrained(tmp_path / "mine")
    with pytest.raises(UserError, match="there is no mapper here"):
        generate(world, actions="left", out=tmp_path / "f.png")
    clips = {
        actions: generate(
            world, actions=actions, out=tmp_path / f"{i}.png", scale=1, mapper=tmp_path / "mine"
        )
        for i, actions in enumerate(("left,right,left", "2,0,2"))
    }
    named, latent = (np.stack([read_image(path) for path in paths]) for paths in clips.values())
    assert np.array_equal(named, latent)
