import numpy as np
import pytest
import torch
from PIL import Image

from genie.core.config import UserError
from genie.world.prompts import load_prompts, prompt_clips, save_prompts

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("source", "shapes"),
    [
        (FRAMES[0], [(8, 8, 3)]),
        (Image.fromarray(FRAMES[0]), [(8, 8, 3)]),
        (FRAMES, [(8, 8, 3)] * 3),
        ([FRAMES, FRAMES[0]], [(3, 8, 8, 3), (8, 8, 3)]),
        (Image.fromarray(FRAMES[0]).convert("L"), [(8, 8, 3)]),
        (Image.fromarray(FRAMES[0]).convert("RGBA"), [(8, 8, 3)]),
    ],
)
def test_every_form_of_a_prompt_is_read(source, shapes):
    assert [prompt.shape for prompt in load_prompts(source, 8, 8)] == shapes


def test_files_and_folders_and_the_worlds_own_pictures(tmp_path):
    (tmp_path / "prompts").mkdir()
    for i, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(tmp_path / "prompts" / f"{i}.png")
    own = load_prompts(None, 8, 8, tmp_path)
    np.testing.assert_array_equal(np.stack(own), FRAMES)
    np.testing.assert_array_equal(load_prompts(tmp_path / "prompts", 8, 8), FRAMES)
    np.testing.assert_array_equal(load_prompts(tmp_path / "prompts" / "1.png", 8, 8)[0], FRAMES[1])


def test_prompts_that_were_not_all_written_are_none(tmp_path):
    def interrupted():
        yield from FRAMES[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_prompts(interrupted(), tmp_path)
    with pytest.raises(UserError, match="brings no prompt"):
        load_prompts(None, 8, 8, tmp_path)
    save_prompts(FRAMES, tmp_path)
    (tmp_path / "prompts" / ".host.1.2.0.png").write_bytes(b"half of a picture")  # by a kill
    np.testing.assert_array_equal(load_prompts(None, 8, 8, tmp_path), FRAMES)
    save_prompts(FRAMES[:1], tmp_path)
    np.testing.assert_array_equal(load_prompts(None, 8, 8, tmp_path), FRAMES[:1])
    assert [path.name for path in tmp_path.iterdir()] == ["prompts"]


def test_another_size_is_cropped_in_the_middle_and_said():
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200
    with pytest.warns(UserWarning, match=r"24x8 pixels .* 4x4"):
        (prompt,) = load_prompts(wide, 4, 4)
    assert prompt.shape == (4, 4, 3)
    assert (prompt == 200).all()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.png", None, "no such picture"),
        ("text.png", b"hello", "not a readable picture"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\x00\x00", "not a readable picture"),
    ],
)
def test_a_bad_picture_is_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}.*{message}"):
        load_prompts(tmp_path / name, 8, 8)


def test_nothing_to_start_from_says_what_to_give(tmp_path):
    for world in (tmp_path, object()):
        with pytest.raises(UserError, match="--prompt"):
            load_prompts(None, 8, 8, world)
    with pytest.raises(UserError, match="no picture in this folder"):
        load_prompts(tmp_path, 8, 8)
    with pytest.raises(UserError, match="empty"):
        load_prompts([], 8, 8)
    with pytest.raises(UserError, match="float64"):
        load_prompts(np.zeros((8, 8, 3)), 8, 8)


def test_games_start_from_one_clip_or_from_a_batch_of_them():
    picture = np.zeros((8, 8, 3), np.uint8)
    for one, frames in (
        (picture, 1),
        (np.stack([picture] * 3), 3),
        (torch.zeros(8, 8, 3).byte(), 1),
    ):
        clips, batched = prompt_clips(one, 8, 8)
        assert (clips.shape, clips.dtype, batched) == ((1, frames, 8, 8, 3), np.uint8, False)
    clips, batched = prompt_clips(np.zeros((2, 3, 8, 8, 1), np.uint8), 8, 8)
    assert (clips.shape, batched) == ((2, 3, 8, 8, 3), True)
    with pytest.raises(UserError, match="the batch is empty"):
        prompt_clips(np.zeros((0, 1, 8, 8, 3), np.uint8), 8, 8)
