from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from untrained import frames

from forked import output_of
from genie.cli import main
from genie.core.config import UserError
from genie.core.numbers import seed_of, seeds_of, whole_numbers
from genie.world import inputs
from genie.world.maskgit import SamplingConfig
from small import save_world

UNSIGNED = [np.uint8, np.uint16, np.uint32, np.uint64]
NONE_WHOLE = [None, 1.0, 1.5, "1", b"1", True, [True], [1, 2.0], ["1"], [None], {}, object()]
NONE_WHOLE += [2**63, 2**64, -(2**64), [2**64], np.array([2**63], np.uint64), float("nan")]
NONE_WHOLE += [torch.tensor(1.5), torch.tensor(True), Fraction(1), [[1], [1, 2]], 1j, slice(2)]


@pytest.mark.parametrize(
    "value", NONE_WHOLE, ids=lambda value: "object" if type(value) is object else repr(value)
)
def test_all_else_is_refused_in_one_sentence(value):
    with pytest.raises(UserError, match=r"^x: expected y, got ") as error:
        whole_numbers(value, "x: expected y")
    assert len(str(error.value)) < 100
    for check in (inputs.check_actions, inputs.check_action_sequence):
        with pytest.raises(UserError, match=r"actions?: expected"):
            check(value, 4, 1)
    for check in (lambda seed: seeds_of(seed, 1), seed_of):
        with pytest.raises(UserError, match="seed: expected"):
            check(value)


def test_actions_are_one_for_all_or_one_for_each():
    assert inputs.check_actions(np.uint8(2), 4, 3).tolist() == [2, 2, 2]
    assert inputs.check_actions([0, 1, 2], 4, 3).tolist() == [0, 1, 2]
    for wrong in ([0, 1], [[0, 1, 2]], []):
        with pytest.raises(UserError, match="one for each of 3 players, got"):
            inputs.check_actions(wrong, 4, 3)
    for wrong in (-1, 4, [0, 0, 99]):
        with pytest.raises(UserError, match="out of range, this world has 0 to 3"):
            inputs.check_actions(wrong, 4, 3)


def test_a_script_is_one_for_all_or_one_for_each():
    assert inputs.check_action_sequence([1, 0], 4, 2).tolist() == [[1, 0], [1, 0]]
    assert inputs.check_action_sequence(np.array([[1, 0], [3, 3]], np.uint8), 4, 2).tolist() == [
        [1, 0],
        [3, 3],
    ]
    for wrong in ([], [[]], 1, [[1], [2], [3]], [[[1]]]):
        with pytest.raises(UserError, match="actions: expected a list"):
            inputs.check_action_sequence(wrong, 4, 2)
    with pytest.raises(UserError, match="actions: 4 is out of range"):
        inputs.check_action_sequence([0, 4], 4, 2)


@pytest.mark.parametrize("seed", ["-1", "18446744073709551616"])
@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "coinrun-tiny", "--data", "{store}"],
        ["generate", "coinrun-tiny", "--out", "{out}.png"],
        ["record", "gym:CartPole-v1", "--out", "{out}"],
    ],
    ids=lambda command: command[0],
)
def test_every_command_refuses_a_seed_that_is_none(command, seed, tmp_path, capsys):
    arguments = [part.format(store=tmp_path / "store", out=tmp_path / "out") for part in command]
    assert main.main([*arguments, "--seed", seed]) == 2
    assert "seed: expected a whole number from 0 to 2**63 - 1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_devices_are_those_of_this_machine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert inputs.device_of(None) == inputs.device_of("cpu") == torch.device("cpu")
    for absent in ("cuda", "cuda:3", "mps", torch.device("cuda")):
        with pytest.raises(UserError, match=r"there is no (cuda|cuda:3|mps) here; `genie doctor`"):
            inputs.device_of(absent)
    for unknown in ("tpu", "meta", "", "cpu:x"):
        with pytest.raises(UserError, match="expected one of cpu, cuda, mps, got"):
            inputs.device_of(unknown)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert inputs.device_of(None) == torch.device("cuda")
    assert inputs.device_of("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match="there is no cuda:2 here"):
        inputs.device_of("cuda:2")


BORDERS = """
import sys, warnings, numpy as np, torch
from PIL import Image
from genie import Genie, UserError
from genie.envs.gym import GenieEnv; from genie.envs.vector import GenieVectorEnv
from genie.world.generate import generate

folder, picture, out = sys.argv[1:]
world = Genie.from_pretrained(folder, device="cpu")
frame = np.zeros((16, 16, 3), np.uint8)
state = world.start(frame)
pair = world.start(np.zeros((2, 1, 16, 16, 3), np.uint8), seed=np.array([3, 4], np.uint32))
env, envs = GenieEnv(world, frame), GenieVectorEnv(world, 2, frame)
env.reset(seed=np.int64(0)), envs.reset(seed=np.array([0, 1]))

refused = 0
def refuses(call, *arguments, **options):
    global refused
    try:
        call(*arguments, **options)
    except UserError as error:
        assert len(str(error)) < 200, error
        refused += 1
    else:
        raise AssertionError((call.__name__, arguments, options))

for wrong in (None, "1", 1.0, 2.7, [0.5], True, 4, -1, 2**64, [0, 1, 2], object(), [[0], [0, 1]]):
    refuses(world.step, state, wrong)
    refuses(world.step, pair, wrong)
    refuses(world.play, frame, wrong)
    if wrong != [0, 1, 2]:  # which is a list of actions
        refuses(world.generate, frame, [wrong])
    refuses(env.step, wrong)
    refuses(envs.step, wrong)
    refuses(envs.step, [wrong, wrong])
for wrong in (None, "1", 1.5, 2.0, True, -1, 2**63, 2**64, np.array([1, 2]), [1, 2], [], object()):
    refuses(world.start, frame, wrong)
    refuses(world.generate, frame, [0], seed=wrong)
    refuses(generate, folder, seed=wrong, out=out)
    if wrong is not None:
        refuses(env.reset, seed=wrong)
        refuses(envs.reset, seed=[wrong, 1])
for wrong in ((), [], "", "gone.png", 7, {}, np.zeros((0, 16, 3), np.uint8), frame[:, :0],
              frame[None, :0][:0], np.zeros((0, 1, 16, 16, 3), np.uint8), frame.astype(float),
              np.zeros((1, 0, 16, 16, 3), np.uint8), frame[..., :2], [frame, frame[:9]],
              frame[..., 0], torch.zeros(16, 16, 3), frame.astype(np.uint16),
              Image.new("F", (16, 16)), object()):
    refuses(world.start, wrong)
    refuses(world.reconstruct, wrong)
    refuses(world.generate, wrong, [0])
    if not isinstance(wrong, list):  # a list of pictures is several prompts, of any size
        refuses(GenieEnv, world, wrong)
refuses(world.reconstruct, None)
for game in (Genie(world.config).start, Genie(world.config).generate):
    refuses(game)  # it has no folder with prompts
assert torch.equal(world.start().frame, world.generate(actions=[0])[0])
refuses(world.infer_actions, frame)
for wrong in (0, -1, 1.5, "2", True):
    refuses(world.generate, frame, num_frames=wrong)
    refuses(GenieEnv, world, frame, horizon=wrong)
    refuses(GenieVectorEnv, world, wrong, frame)
for wrong in ("tpu", "cuda:77", "meta", 7, object()):
    refuses(Genie.from_pretrained, folder, device=wrong)
    refuses(GenieEnv, folder, frame, device=wrong)
    refuses(generate, folder, device=wrong, out=out)
for wrong in (1, -1, "0", 0.0, None, [0]):
    refuses(env.reset, options={"prompt": wrong})

for kind in (np.uint8, np.uint16, np.uint32, np.uint64, np.int8, int):
    after = world.step(state, 2)[0]
    assert torch.equal(world.step(state, kind(2))[0], after)
    assert torch.equal(world.step(state, np.array(2, kind))[0], after)
    both = world.step(pair, [2, 1])[0]
    assert torch.equal(world.step(pair, np.array([2, 1], kind))[0], both)
    assert torch.equal(world.generate(frame, [kind(2)], seed=kind(0))[1], after)
    assert torch.equal(world.generate(frame, np.array([2], kind))[1], after)
    env.step(kind(2)), envs.step(np.array([2, 1], kind))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    first = world.start(picture).frame
    assert first.float().mean() > 20
    opened = Image.open(picture)
    for given in (opened, opened.convert("RGB")):
        assert torch.equal(world.start(given).frame, first)
    assert np.array_equal(GenieEnv(world, picture).reset()[0], first)
    path = generate(folder, picture, frames=1, out=out, scale=1, progress=False)[0]
    assert np.array_equal(np.asarray(Image.open(path)), first)
print(refused)
"""


def test_no_border_lets_a_raw_exception_or_nonsense_through(tmp_path):
    """In a process without the type checks of the tests, as users run it."""
    save_world(tmp_path / "world", np.zeros((16, 16, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    half = np.zeros((32, 48, 3), np.uint8)
    half[:, 24:] = 255
    Image.fromarray(half).save(tmp_path / "phone.jpg", exif=exif)
    arguments = [tmp_path / "world", tmp_path / "phone.jpg", tmp_path / "out.png"]
    assert int(output_of(BORDERS, *arguments)) > 200


def test_guidance_needs_a_world_that_knows_an_unknown_action(world):
    with pytest.raises(UserError, match="unconditional_fraction"):
        world.step(world.start(frames(1)[0]), 0, SamplingConfig(guidance=1.0))
    for cached in (True, False):
        with pytest.raises(UserError, match="unconditional_fraction"):
            world.generate(frames(1), [0], sampling=SamplingConfig(guidance=1.0), use_cache=cached)


@pytest.mark.parametrize("text", ["1,1,2", "1 1 2", "1, 1, 2,"])
def test_actions_are_read(text):
    assert inputs.parse_actions(text) == [1, 1, 2]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("left,left, jump", ["left", "left", "jump"]),
        ("left jump", ["left", "jump"]),
        ("action 3,action 1,", ["action 3", "action 1"]),
    ],
)
def test_names_are_read(text, names):
    assert inputs.parse_actions(text) == names


@pytest.mark.parametrize("text", ["", "1.5", "1;2", "left,2", ",", "1,,2", "²"])
def test_what_is_no_action_is_refused(text):
    with pytest.raises(UserError, match="actions: "):
        inputs.parse_actions(text)
