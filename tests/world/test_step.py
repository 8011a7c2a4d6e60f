"""Play as modules of tensors: the tokens of `Genie.step`, and what `torch.export` takes."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from untrained import CONFIG, SHALLOW, frames, stirred

from genie import Genie, SamplingConfig
from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizers.registry import BACKBONES
from genie.world import maskgit, rng, step
from genie.world.bundled import folder_of
from genie.world.prompts import load_prompts

ACTIONS = [0, 1, 2, 3, 3, 3, 1, 0, 2, 2, 1, 3, 0, 0, 1, 2, 3, 1, 1, 0]
SAMPLING = [
    SamplingConfig(steps=3),
    SamplingConfig(steps=4, order="halton", mask_schedule="linear", temperature=0.7, top_k=3),
    SamplingConfig(steps=5, order="confidence"),
    SamplingConfig(steps=2, order="confidence", temperature=0.0),
    SamplingConfig(steps=30, temperature=0.0, top_k=2),
]
GUIDED = [SamplingConfig(steps=3, guidance=2.0), SamplingConfig(order="confidence", guidance=0.5)]


def functions(world: Genie, sampling: SamplingConfig) -> dict[str, nn.Module]:
    by_confidence = sampling.order == "confidence"
    one = step.ConfidenceStep if by_confidence else step.MaskGITStep
    return {
        "encode": step.EncodePrompt(world.tokenizer),
        "infer": step.InferActions(world.actions),
        "start": step.StartGame(world.dynamics, world.tokenizer),
        "maskgit": one(world.dynamics, sampling.top_k),
        "commit": step.CommitFrame(world.dynamics),
        "decode": step.DecodeFrame(world.tokenizer),
    }


class Game:
    """A game in tensors, as a runtime without this package would play it.

    Args:
        world: whose sizes are used.
        call: calls one of the functions by its name, with tensors.
        prompt: (B, T, H, W, 3).
        seeds: one per player.
        sampling: of all steps.
    """

    def __init__(self, world, call, prompt, seeds, sampling):
        self.world, self.call, self.sampling = world, call, sampling
        self.seeds = torch.tensor(seeds)
        tokens = call("encode", prompt)
        actions = [call("infer", prompt)] if prompt.shape[1] > 1 else []
        self.previous = tokens[:, -1]
        self.time, *caches = call("start", tokens, *actions)
        self.dynamics, self.decoder = caches[:2], caches[2:]

    def step(self, action: int) -> torch.Tensor:
        """Returns the next frame."""
        dynamics, sampling = self.world.dynamics, self.sampling
        keys = rng.make_keys(self.seeds, self.time.long())
        actions = torch.full_like(self.time, action)
        tokens = torch.full_like(self.previous, dynamics.mask_token)
        before = (actions, self.previous, self.time, *self.dynamics)
        guidance = [torch.tensor(sampling.guidance)] if sampling.guidance else []
        count = len(maskgit.step_counts(tokens.shape[1], sampling, dynamics.coarse_tokens))
        for number in range(1, count + 1):
            fill, keep, *random = step.step_inputs(tokens, number, keys, dynamics, sampling)
            chosen = keep if sampling.order == "confidence" else fill
            tokens = self.call("maskgit", tokens, chosen, *random, *before, *guidance)
        frame, *self.decoder = self.call("decode", tokens, self.time, *self.decoder)
        self.time, *self.dynamics = self.call("commit", tokens, *before)
        self.previous = tokens
        for integers in (tokens, self.time):
            assert integers.dtype == torch.int32
        return frame


def assert_same_game(world, call, prompt, seeds, sampling, actions=ACTIONS):
    game = Game(world, call, prompt, seeds, sampling)
    state = world.start(prompt, seeds)
    assert torch.equal(game.previous, state.dynamics.tokens)
    for action in actions:
        predicted = world.predict(state, action, sampling)
        frame = game.step(action)
        assert torch.equal(game.previous, predicted.tokens)
        torch.testing.assert_close(frame, predicted.frame, atol=1, rtol=0)  # grey levels
        state = world.commit(predicted)
    assert torch.equal(game.time, state.time)
    assert torch.equal(game.time, state.decoder.time)


@pytest.fixture(scope="module")
def prompt():
    return frames(2, 3)


@torch.no_grad()
@pytest.mark.parametrize("sampling", SAMPLING, ids=lambda each: f"{each.order}-{each.steps}")
def test_a_toy_world_plays_the_tokens_of_step(world, prompt, sampling):
    made = functions(world, sampling)
    assert_same_game(world, lambda name, *given: made[name](*given), prompt, [7, 8], sampling)


@torch.no_grad()
@pytest.mark.parametrize("sampling", GUIDED, ids=lambda each: each.order)
def test_guidance_is_part_of_a_maskgit_step(prompt, sampling):
    dynamics = replace(CONFIG.dynamics, unconditional_fraction=0.2)
    guided = stirred(replace(CONFIG, dynamics=dynamics))
    made = functions(guided, sampling)
    assert_same_game(guided, lambda name, *given: made[name](*given), prompt, [7, 8], sampling)


@torch.no_grad()
def test_the_bundled_world_plays_the_tokens_of_step():
    world = Genie.from_pretrained("coinrun-tiny", device="cpu")
    size = (world.config.height, world.config.width)
    folder = folder_of("coinrun-tiny")
    assert folder is not None
    image = load_prompts(folder / "prompts" / "0.png", *size)[0]
    sampling, made = world.config.sampling, functions(world, world.config.sampling)
    image = torch.from_numpy(image)[None, None]
    assert_same_game(world, lambda name, *given: made[name](*given), image, [5], sampling)


@torch.no_grad()
@pytest.mark.parametrize(("order", "history"), [("random", 3), ("confidence", 1)])
def test_every_function_can_be_exported_and_plays_on(order, history):
    """Exported for the shapes of their first call, then played past the end of the window."""
    sampling = SamplingConfig(steps=3, order=order, top_k=5)
    world = stirred(replace(SHALLOW, sampling=sampling))
    made, graphs = functions(world, sampling), {}

    def call(name, *given):
        if name not in graphs:
            graphs[name] = torch.export.export(made[name], given).module()
        return graphs[name](*given)

    assert_same_game(world, call, frames(2, history), [3, 9], sampling, ACTIONS[:6])
    assert set(graphs) == set(made) - ({"infer"} if history == 1 else set())


@torch.no_grad()
@pytest.mark.parametrize("backbone", [*BACKBONES][1:])  # the first one is exported above
def test_the_decoder_of_every_backbone_can_be_exported(backbone):
    tokenizer = BACKBONES[backbone](patch=4, quantizer=VQConfig(codes=32, dim=8))
    world = stirred(replace(CONFIG, tokenizer=tokenizer))
    made, graphs = functions(world, SAMPLING[0]), {}

    def call(name, *given):
        if name not in ("encode", "start", "decode"):
            return made[name](*given)
        if name not in graphs:
            graphs[name] = torch.export.export(made[name], given).module()
        return graphs[name](*given)

    assert_same_game(world, call, frames(2, 3), [3, 9], SAMPLING[0], ACTIONS[:4])


def test_what_export_traces_leaves_nothing_behind():
    """A table that tracing filled would hold tensors without values."""
    world = stirred(replace(CONFIG, dynamics=replace(CONFIG.dynamics, heads=2, head_width=22)))
    prompt = frames(1, 1)
    tokens = world.tokenizer.encode(prompt)
    torch.export.export(step.StartGame(world.dynamics, world.tokenizer), (tokens,))
    frame, _ = world.step(world.start(prompt), 1)
    assert frame.float().std().item() > 0


def test_integers_may_have_32_or_64_bits(world, prompt):
    start = step.StartGame(world.dynamics, world.tokenizer)
    tokens, actions = world.tokenizer.encode(prompt), world.actions.infer(prompt)
    for one, other in zip(start(tokens, actions), start(tokens.int(), actions.int()), strict=True):
        assert torch.equal(one, other)


def test_ranks_are_those_of_a_stable_sort():
    scores = torch.tensor([[1.0, 3, 3, -torch.inf, 2, 3], [0, 0, 0, 0, 0, 0]])
    assert step._ranks(scores).tolist() == [[4, 0, 1, 5, 3, 2], [0, 1, 2, 3, 4, 5]]
