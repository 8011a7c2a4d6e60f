import copy
import json
import resource
import shutil
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from untrained import CONFIG, SHALLOW, close, frames, stirred

from forked import output_of
from genie import Genie, GenieConfig, SamplingConfig, UserError
from genie.core.config import from_dict
from genie.core.renamed_keys import with_old_keys
from genie.models.quantizers.registry import KINDS
from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizers.registry import BACKBONES
from genie.presets import registry
from genie.world.state import State


def test_the_prompt_is_preserved_and_one_frame_follows_each_action(world: Genie):
    prompt = frames(2, 3)
    clip = world.generate(prompt, [0, 1, 2, 3, 0])
    assert clip.shape == (2, 8, 16, 16, 3)
    assert torch.equal(clip[:, :3], prompt)
    assert world.generate(prompt[0], [0, 1]).shape == (5, 16, 16, 3)
    assert torch.equal(world.generate(prompt[0, 0], [0])[0], prompt[0, 0])


def test_a_prompt_is_seen_through_the_tokens(world: Genie):
    clip = frames(3)
    tokens = world.tokenizer.encode(clip[None])
    assert torch.equal(world.reconstruct(clip), world.tokenizer.decode(tokens)[0, -1])
    assert not torch.equal(world.reconstruct(clip), clip[-1])
    assert world.reconstruct(clip.expand(2, -1, -1, -1, -1)).shape == (2, 16, 16, 3)
    assert torch.equal(world.reconstruct(clip[0]), world.reconstruct(clip[:1]))


def test_the_action_changes_the_frame_and_only_from_then_on(world: Genie):
    prompt = frames(1)[0]
    one, other = world.generate(prompt, [0, 1, 2, 3]), world.generate(prompt, [0, 1, 3, 3])
    assert torch.equal(one[:3], other[:3])
    assert not torch.equal(one[3], other[3])


def test_the_seed_decides_and_temperature_has_an_effect(world: Genie):
    prompt = frames(1)[0]
    clip = world.generate(prompt, [0] * 4, seed=1)
    assert torch.equal(clip, world.generate(prompt, [0] * 4, seed=1))
    assert not torch.equal(clip, world.generate(prompt, [0] * 4, seed=2))
    cold = SamplingConfig(steps=3, order="halton", temperature=0.0)
    assert torch.equal(
        world.generate(prompt, [0] * 4, seed=1, sampling=cold),
        world.generate(prompt, [0] * 4, seed=2, sampling=cold),
    )
    hot = world.generate(prompt, [0] * 4, seed=1, sampling=replace(cold, temperature=5.0))
    assert not torch.equal(hot, world.generate(prompt, [0] * 4, seed=1, sampling=cold))


def test_a_batch_of_players_equals_each_alone(world: Genie):
    prompt, buttons = frames(3, 1), torch.randint(0, 4, (3, 9))
    together = world.generate(prompt, buttons, seed=[5, 6, 7])
    for player in range(3):
        alone = world.generate(prompt[player], buttons[player], seed=5 + player)
        assert close(together[player], alone)


COMPILED = """
import sys, torch
from torch._inductor import config
config.compile_threads = 1  # a pool of processes takes longer to start than it saves here
from genie import Genie; from genie.world import rng as noise

torch.manual_seed(0)
plain, compiled = (Genie.from_pretrained(sys.argv[1], device="cpu") for _ in range(2))
compiled.compile()
prompt = torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8)
buttons = torch.randint(0, 4, (9,))
difference = compiled.generate(prompt, buttons).int() - plain.generate(prompt, buttons).int()
assert difference.abs().max() <= 1, difference.abs().max()
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 3
bits = torch.compile(noise.random_bits, dynamic=True)
for count in (3, 40, 41, 900):
    assert torch.equal(bits(torch.tensor([3]), count), noise.random_bits(torch.tensor([3]), count))
"""


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler")
def test_compiled_it_plays_the_same_game(tmp_path: Path):
    stirred(SHALLOW).save_pretrained(tmp_path)
    output_of(COMPILED, tmp_path)


OVERWRITTEN = """
import sys, torch
from genie import Genie
from genie.models.layers.compile import compile_method

def overwriting(graph, inputs, **options):  # as CUDA graphs do
    kept = {}

    def run(*values):
        results = graph(*values)
        shapes = tuple(result.shape for result in results)
        places = kept.setdefault(shapes, [torch.empty_like(result) for result in results])
        return [place.copy_(result) for place, result in zip(places, results, strict=True)]

    return run

plain, compiled = (Genie.from_pretrained(sys.argv[1], device="cpu") for _ in range(2))
for part in (compiled.dynamics, compiled.tokenizer):
    part.compile(backend=overwriting, mode="reduce-overhead")
options = {"backend": overwriting, "mode": "reduce-overhead"}
compile_method(compiled, "_sample_tokens", dynamic_argument=0, **options)
prompt, buttons = torch.zeros(16, 16, 3, dtype=torch.uint8), [0, 1, 2, 3, 0]
states = [compiled.start(prompt, seed=3)]
for button in buttons:
    states.append(compiled.step(states[-1], button)[1])
shown = torch.stack([state.frame for state in states])
assert torch.equal(shown, plain.generate(prompt, buttons, seed=3))
again = [compiled.step(state, button)[0] for state, button in zip(states, buttons)]
assert torch.equal(torch.stack(again), shown[1:])
"""


@pytest.mark.long
def test_states_stay_what_they_are_where_results_are_written_over(tmp_path: Path):
    stirred(SHALLOW).save_pretrained(tmp_path)
    output_of(OVERWRITTEN, tmp_path)


class Crossings(TorchDispatchMode):
    """Notes what has tensors on two devices."""

    def __init__(self):
        super().__init__()
        self.seen: list[tuple[str, torch.Size]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves([args, kwargs, result]) if isinstance(x, torch.Tensor)]
        if len({tensor.device.type for tensor in tensors}) > 1:
            self.seen.append((str(function.overloadpacket), tensors[0].shape))
        return result


@pytest.mark.parametrize("order", ["confidence", "random", "halton"])
def test_of_a_frame_only_the_buttons_go_to_the_device_and_nothing_waits_for_it(
    world: Genie, order: str, monkeypatch: pytest.MonkeyPatch
):
    """Tensors of the device "meta" have no values, so that whatever asks for one fails."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())
    distant = copy.deepcopy(world).to("meta")
    state = distant.start(frames(2, 1), seed=[1, 2])
    for _ in range(5):  # beyond the window
        with Crossings() as crossings:
            state = distant.step(state, [0, 1], SamplingConfig(steps=3, order=order))[1]
        assert crossings.seen == [("aten._to_copy", (2,))]


def test_a_frame_can_be_shown_before_it_is_committed(world: Genie):
    state = world.start(frames(2, 1), seed=3)
    predicted = world.predict(state, [1, 2])
    assert state.time.tolist() == [1, 1]
    shown, after = world.step(state, [1, 2])
    assert torch.equal(predicted.frame, shown)
    assert predicted.frame.shape == (2, 16, 16, 3)
    for _ in range(2):  # a value, too
        late = world.commit(predicted)
        assert torch.equal(world.step(late, [3, 0])[0], world.step(after, [3, 0])[0])


def test_without_a_compiler_compiling_is_refused_with_advice(
    world: Genie, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"apt-get install g\+\+"):
        world.compile()


def test_a_frame_is_the_callers_to_change(world: Genie):
    for prompt in (frames(1)[0], frames(2, 1)):
        start = world.start(prompt, seed=3)
        predicted = world.predict(start, 1)
        frame, state = world.step(start, 1)
        kept = frame.clone()
        for given in (frame, state.frame, start.frame, predicted.frame):
            given.zero_()
        assert torch.equal(state.frame, kept)
        assert torch.equal(predicted.frame, kept)
        assert torch.equal(start.frame.flatten(), prompt.flatten())


def test_infer_actions_and_play(world: Genie):
    assert world.infer_actions(frames(2, 5)).shape == (2, 4)
    assert world.infer_actions(frames(5)).shape == (4,)
    frame = world.play(frames(1)[0], 2)
    assert frame.shape == (16, 16, 3)
    assert frame.dtype == torch.uint8


def test_random_actions_when_none_are_given(world: Genie):
    clip = world.generate(frames(1)[0], num_frames=6)
    assert clip.shape == (7, 16, 16, 3)
    assert torch.equal(clip, world.generate(frames(1)[0], num_frames=6))


def test_in_bfloat16_it_is_nearly_the_same_world(world: Genie, tmp_path: Path):
    world.save_pretrained(tmp_path)
    half = Genie.from_pretrained(tmp_path, "cpu", "bfloat16")
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}
    tokens = torch.randint(0, 32, (2, 5, 16))
    difference = half.tokenizer.decode(tokens).int() - world.tokenizer.decode(tokens).int()
    assert 0 < difference.abs().max() <= 4
    assert half.generate(frames(1)[0], [0, 1, 2], seed=1).shape == (4, 16, 16, 3)
    with pytest.raises(UserError, match=r"torch.float32, this one is in torch.bfloat16"):
        half.step(world.start(frames(1)[0]), 0)
    with pytest.raises(UserError, match="dtype: float16, expected one of float32, bfloat16"):
        Genie.from_pretrained(tmp_path, "cpu", torch.float16)


def test_saved_and_loaded_it_is_the_same_world(world: Genie, tmp_path: Path):
    world.save_pretrained(tmp_path / "w")
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    loaded = Genie.from_pretrained(tmp_path / "w", device="cpu")
    assert loaded.config == world.config
    prompt = frames(1)[0]
    assert torch.equal(loaded.generate(prompt, [1, 2]), world.generate(prompt, [1, 2]))


def test_a_world_that_was_saved_under_old_keys_is_the_same_world(world: Genie, tmp_path: Path):
    world.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"config": with_old_keys(world.config)}))
    assert '"no_effect"' in path.read_text()
    assert Genie.from_pretrained(tmp_path, device="cpu").config == world.config
    with pytest.raises(UserError, match=r"no_effect: unknown key, it is now dynamics\.static"):
        Genie({"dynamics": {"no_effect": 0.5}})


@pytest.mark.parametrize("kind", KINDS)
def test_every_quantizer_can_be_saved_and_loaded(kind: str, tmp_path: Path):
    quantizer = KINDS[kind](codes=64)
    config = replace(CONFIG, tokenizer=replace(CONFIG.tokenizer, quantizer=quantizer))
    world = Genie(config).eval()
    world.save_pretrained(tmp_path)
    loaded = Genie.from_pretrained(tmp_path, device="cpu")
    prompt = frames(1)[0]
    assert torch.equal(loaded.generate(prompt, [1, 2]), world.generate(prompt, [1, 2]))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_plays_the_same_game_with_a_cache_saved_and_in_a_batch(
    backbone: str, tmp_path: Path
):
    tokenizer = BACKBONES[backbone](patch=4, quantizer=VQConfig(codes=32, dim=8))
    world = stirred(replace(CONFIG, tokenizer=tokenizer))
    prompt, buttons = frames(2, 3), torch.randint(0, 4, (2, 7))
    clip = world.generate(prompt, buttons, seed=[3, 4])
    assert close(clip, world.generate(prompt, buttons, seed=[3, 4], use_cache=False))
    assert len({frame.numpy().tobytes() for frame in clip[0, 3:]}) > 1
    world.save_pretrained(tmp_path)
    loaded = Genie.from_pretrained(tmp_path, device="cpu")
    assert loaded.config == world.config
    assert torch.equal(loaded.generate(prompt, buttons, seed=[3, 4]), clip)
    # Two games, one of them a frame ahead, as a server plays them.
    ahead, behind = world.start(prompt[0], 3), world.start(prompt[1], 4)
    _, ahead = world.step(ahead, buttons[0, 0])
    both = State.stack([ahead, behind])
    for step in range(3):
        played = [buttons[0, step + 1].item(), buttons[1, step].item()]
        together, both = world.step(both, played)
        assert close(together[0], clip[0, 4 + step])
        assert close(together[1], clip[1, 3 + step])


def edited(folder: Path, path: str, value: object) -> Path:
    """A saved world with one value of its configuration changed."""
    values = json.loads((folder / "config.json").read_text())
    *parts, last = ["config", *path.split(".")] if path else ["config"]
    place = values
    for part in parts:
        place = place[part]
    place[last] = value
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("dynamics.layers", 50_000, r"dynamics\.layers: 50000 is too large, at most 1024"),
        ("tokenizer.encoder.width", 10**9, r"tokenizer\.encoder\.width: 1000000000 is too large"),
        ("actions.decoder.ffn_width", 10**400, r"actions\.decoder\.ffn_width: 1000.* is too large"),
        ("tokenizer.quantizer.codes", 2**40, r"quantizer\.codes: 1099511627776 is too large"),
        ("dynamics.window", 10**12, r"dynamics\.window: 1000000000000 is too large"),
        ("num_actions", 10**6, "num_actions: 1000000 is too large"),
        ("height", 10**6, "height: 1000000 is too large"),
        ("actions.max_displacement", 10**5, r"actions\.max_displacement: 100000 is too large"),
        ("fps", 1e300, r"fps: 1e\+300 is too large"),
        ("fps", float("inf"), "fps: expected a finite number, got inf"),
        (
            "dynamics.changed_token_weight",
            float("nan"),
            r"dynamics\.changed_token_weight: expected a finite",
        ),
        ("tokenizer.l2_weight", float("inf"), r"tokenizer\.l2_weight: expected a finite number"),
        ("dynamics.layers", 1000, r"weights do not fit the configuration \(1004 layers, \d+ tens"),
        ("dynamics.layers", 3, r"weights do not fit the configuration \(dynamics.*missing"),
        ("tokenizer.encoder.width", 65_536, r"do not fit.*\(\d+.*\) in the weights, .*65536"),
        ("dynamics.ffn_width", 2**20, r"do not fit.*in the weights, .*1048576.* in the config"),
        ("num_actions", 4096, r"do not fit .*4096"),
        ("height", 16_384, r"do not fit"),
        ("", None, "GenieConfig: expected a mapping, got None"),
        ("", [], r"GenieConfig: expected a mapping, got \[\]"),
    ],
)
def test_hostile_and_foolish_sizes_are_refused_before_anything_is_allocated(
    world: Genie, tmp_path: Path, path: str, value: object, sentence: str
):
    world.save_pretrained(tmp_path)
    edited(tmp_path, path, value)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(UserError, match=sentence):
        Genie.from_pretrained(tmp_path, device="cpu")
    assert time.process_time() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB


def test_numbers_that_are_not_finite_are_refused_in_python_too():
    with pytest.raises(
        UserError, match=r"dynamics\.changed_token_weight: expected a finite number"
    ):
        Genie(replace(CONFIG, dynamics=replace(CONFIG.dynamics, changed_token_weight=float("inf"))))
    with pytest.raises(UserError, match="temperature: must be finite"):
        SamplingConfig(temperature=float("inf"))


def test_a_preset_is_no_configuration_and_the_message_says_which_part_is():
    with pytest.raises(UserError, match=r"expected a mapping, got a Preset; give its `world`$"):
        from_dict(GenieConfig, registry.get("tiny"))


def test_a_picture_of_another_size_and_mode_is_converted_with_a_note(world: Genie, tmp_path: Path):
    path = tmp_path / "prompt.png"
    Image.fromarray(np.full((40, 60), 90, np.uint8)).save(path)
    with pytest.warns(UserWarning, match="60x40"):
        state = world.start(str(path))
    assert state.frame.shape == (16, 16, 3)


@pytest.mark.parametrize("action", [-1, 4, [0, 1], torch.tensor(1.5)])
def test_buttons_that_do_not_exist_are_refused(world: Genie, action: object):
    state = world.start(frames(1)[0])
    with pytest.raises(UserError, match="action"):
        world.step(state, action)


@pytest.mark.parametrize("action", ["a", None, [[0], [0, 1]]])
def test_buttons_that_are_no_numbers_are_refused(world: Genie, action: object):
    with pytest.raises(UserError, match="action: expected an integer"):
        world._check_actions(action, 1)  # `step` itself is checked by type in these tests


def test_scripts_that_make_no_sense_are_refused(world: Genie):
    with pytest.raises(UserError, match="num_frames"):
        world.generate(frames(1)[0])
    with pytest.raises(UserError, match="out of range"):
        world.generate(frames(1)[0], [0, 9])
    for script in ([[0], [1], [2]], ["a"], [[0], [0, 1]]):
        with pytest.raises(UserError, match="actions: expected a list"):
            world.generate(frames(2, 1), script)
    for count in (0, -1):
        with pytest.raises(UserError, match="num_frames: must be at least 1"):
            world.generate(frames(1)[0], [0, 1], num_frames=count)
    with pytest.raises(UserError, match="2 seeds for 1 players"):
        world.start(frames(1)[0], seed=[1, 2])


def test_push_to_hub_uploads_config_and_weights(world: Genie, monkeypatch: pytest.MonkeyPatch):
    uploads = {}

    class Hub:
        def __init__(self, token: str | None = None):
            pass

        def create_repo(self, repo_id: str, **options: object) -> None:
            uploads["repo"] = repo_id

        def upload_folder(self, repo_id: str, folder_path: str, **options: object) -> str:
            uploads["files"] = sorted(path.name for path in Path(folder_path).iterdir())
            return f"https://hub/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert world.push_to_hub("me/world", prompts=frames(2).numpy()) == "https://hub/me/world"
    files = ["config.json", "model.safetensors", "prompts"]
    assert uploads == {"repo": "me/world", "files": files}
