import base64
import json
from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
import torch
from PIL import Image

from genie.cli import main
from genie.core.config import UserError, to_dict
from genie.data.images import read_image
from genie.world.generate import replay
from genie.world.genie import Genie
from genie.world.maskgit import SamplingConfig
from genie.world.replay import (
    ADDED,
    Replay,
    SamplingChange,
    _hashed,
    compress_changes,
    decode_prompt,
    dtype_name,
    encode_frame,
    expand_changes,
    world_hash,
)
from small import TINY

USUAL, OTHER = SamplingConfig(steps=2), SamplingConfig(steps=3, temperature=0.5)


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    return Genie(TINY).eval()


@pytest.fixture
def game(world):
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    changes = (SamplingChange(0, USUAL), SamplingChange(2, OTHER))
    return Replay(
        "small", world_hash(world), 15.0, (encode_frame(picture),), 7, changes, (1, 3, 0, 2, 2)
    )


def write(path, game, **changes):
    path.write_text(json.dumps(to_dict(game) | changes))
    return path


def test_a_replay_plays_the_game_again(world, game, tmp_path):
    prompt = decode_prompt(game.prompt, (16, 16))
    expected, state = [prompt], world.start(prompt, 7)
    for action, sampling in zip(game.actions, [USUAL] * 2 + [OTHER] * 3, strict=True):
        frame, state = world.step(state, action, sampling)
        expected.append(frame.numpy())
    read = Replay.read(write(tmp_path / "a.json", game))
    assert read == game
    np.testing.assert_array_equal(np.stack(list(read.frames(world))), np.stack(expected))


def test_a_picture_that_holds_more_than_its_pixels_is_refused(game):
    padded = base64.b64encode(base64.b64decode(game.prompt[0]) + bytes(8000)).decode()
    with pytest.raises(UserError, match=r"16x16 takes .* characters at most, this one"):
        decode_prompt([padded], (16, 16))


def test_the_replay_of_a_game_has_its_sampling_and_the_worlds_own(world, game):
    prompt = decode_prompt(game.prompt, (16, 16))
    again = Replay.of_game(
        world, "small", prompt, 7, game.actions, game.sampling_per_step(), fps=15.0
    )
    assert again == game
    own = Replay.of_game(world, "small", prompt[None], 7, [1])
    assert (own.sampling, own.prompt) == ((SamplingChange(0, USUAL),), game.prompt)


def test_equal_games_are_equal_bytes(world, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    files = []
    for name in ("a", "b"):
        # Each is made anew: from the world's hash over the PNG of the prompt to the settings.
        torch.manual_seed(0)
        sampling = [SamplingConfig(steps=2)] * 2 + [SamplingConfig(steps=3)]
        again = Genie(TINY).eval()
        replay = Replay.of_game(again, "small", picture.copy(), 7, [1, 3, 0], sampling)
        files.append(write(tmp_path / f"{name}.json", replay).read_bytes())
    assert files[0] == files[1]


def test_a_replay_is_played_in_its_dtype(world, game, tmp_path):
    world.save_pretrained(tmp_path / "small")
    half = Genie.from_pretrained(tmp_path / "small", "cpu", "bfloat16")
    assert world_hash(half) != world_hash(world)
    changed = {"hash": world_hash(half), "dtype": dtype_name(half.dtype)}
    file = write(tmp_path / "a.json", game, **changed)
    paths = replay(file, world=tmp_path / "small", out=tmp_path / "f.png", scale=1)
    frames = np.stack(list(Replay.read(file).frames(half)))
    np.testing.assert_array_equal(np.stack([read_image(path) for path in paths]), frames)
    with pytest.raises(UserError, match="another training or version"):
        next(game.frames(half))


def test_another_device_is_noted(world, game, tmp_path):
    world.save_pretrained(tmp_path / "small")
    options = {"world": tmp_path / "small", "out": tmp_path / "f.png", "device": "cpu", "scale": 1}
    with pytest.warns(UserWarning, match="computed by webgpu, and is now by cpu: rounding differs"):
        replay(write(tmp_path / "a.json", game, device="webgpu"), **options)


def test_a_file_of_before_names_the_mask_schedule_in_the_old_way(game, tmp_path):
    values = json.loads(write(tmp_path / "a.json", game).read_text())
    for change in values["sampling"]:
        change["sampling"]["schedule"] = change["sampling"].pop("mask_schedule")
    (tmp_path / "old.json").write_text(json.dumps(values))
    assert Replay.read(tmp_path / "old.json") == game


def test_sampling_is_written_as_its_changes():
    every = [USUAL, USUAL, OTHER, USUAL]
    changes = compress_changes(every)
    assert [change.step for change in changes] == [0, 2, 3]
    assert expand_changes(changes, 4) == every
    assert expand_changes(changes, 1) == [USUAL]
    assert expand_changes(changes, 0) == []


def test_a_hash_is_of_configuration_and_weights(world):
    torch.manual_seed(0)
    assert world_hash(Genie(TINY)) == world_hash(world)
    assert world_hash(Genie({**TINY, "fps": 9.0})) != world_hash(world)
    other = Genie(TINY)
    other.load_state_dict(world.state_dict())
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-6
    assert world_hash(other) != world_hash(world)


def test_options_that_a_world_does_not_use_are_not_in_its_hash(world):
    hashed = _hashed(world.config)
    for path in ADDED:
        part = reduce(lambda values, key: values.get(key, {}), path.split("."), hashed)
        assert part == {}, path
    assert hashed["actions"]["encoder"]["window"] == 2


def test_another_world_is_refused(world, game):
    with pytest.raises(UserError, match=r"made in small.*--world"):
        next(replace(game, hash="0").frames(world))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": "x"}, "format"),
        ({"version": 2}, "version"),
        ({"more": 1}, "more: unknown key"),
        ({"actions": [-1]}, "must not be negative"),
        ({"actions": ["1"]}, r"actions\[0\]"),
        ({"sampling": []}, "from step 0"),
        ({"prompt": []}, "at least one picture"),
        ({"prompt": ["a"] * 2000}, "2,000 pictures, at most 1024"),
        ({"fps": 0}, "fps"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**31}, "seed"),
        ({"sampling": [{"step": 1, "sampling": {}}]}, "from step 0"),
        ({"fps": 1e-300}, "fps"),
        ({"fps": 1e300}, "fps"),
    ],
)
def test_what_is_no_replay_is_refused(game, tmp_path, changes, reason):
    with pytest.raises(UserError, match=reason):
        Replay.read(write(tmp_path / "a.json", game, **changes))


@pytest.mark.parametrize(
    "changes", [{"fps": 0.01}, {"fps": 1000}, {"seed": 0}, {"seed": 2**31 - 1}]
)
def test_the_ends_of_ranges_are_played(game, tmp_path, changes):
    (name,) = changes
    assert getattr(Replay.read(write(tmp_path / "a.json", game, **changes)), name) == changes[name]


def test_a_file_that_cannot_be_read_is_said(tmp_path):
    with pytest.raises(UserError, match="no such replay"):
        Replay.read(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(UserError, match="not a replay file"):
        Replay.read(tmp_path / "a.json")


def test_prompts_are_png_of_the_worlds_size():
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 16, 3), np.uint8)
    texts = [encode_frame(frame) for frame in frames]
    np.testing.assert_array_equal(decode_prompt(texts, (8, 16)), frames)
    np.testing.assert_array_equal(decode_prompt(texts[:1], (8, 16)), frames[0])
    with pytest.raises(UserError, match="16x8, the world's are 8x16"):
        decode_prompt(texts, (16, 8))
    for wrong in (
        "",
        "!",
        base64.b64encode(b"<svg/>").decode(),
        base64.b64encode(b"GIF89a").decode(),
    ):
        with pytest.raises(UserError, match="not a PNG"):
            decode_prompt([wrong], (8, 16))
    for cut in range(60, len(texts[0]) - 40, 44):
        with pytest.raises(UserError, match=r"PNG|damaged"):
            decode_prompt([texts[0][:cut]], (8, 16))


def test_the_command_writes_the_frames(world, game, tmp_path, capsys, monkeypatch):
    world.save_pretrained(tmp_path / "runs" / "small")
    file = write(tmp_path / "a.json", game)
    monkeypatch.chdir(tmp_path)
    options = ["--scale", "1", "--device", "cpu"]
    assert main.main(["replay", str(file), "--out", "f.png", *options]) == 0
    written = [np.asarray(Image.open(path)) for path in capsys.readouterr().out.split()]
    np.testing.assert_array_equal(np.stack(written), np.stack(list(game.frames(world))))
    assert main.main(["replay", str(file), "--world", "runs/small", "--out", "f.mp4"]) == 0
    assert (tmp_path / "f.mp4").stat().st_size > 0
    write(file, game, world="../runs/small")
    assert main.main(["replay", str(file)]) == 2
    assert "--world FOLDER" in capsys.readouterr().err
