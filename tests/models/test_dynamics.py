from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from genie.core.config import UserError
from genie.models.dynamics import Dynamics, DynamicsConfig, current_name, first_name
from genie.world.maskgit import SamplingConfig, sample

CONFIG = DynamicsConfig(layers=2, width=32, heads=4, window=4, context_corruption=0.0)
PAPERS = replace(
    CONFIG,
    context="masked",
    action_conditioning="add",
    mask_ratio="uniform",
    copy_head=False,
    changed_token_weight=1.0,
)
GRID, VOCABULARY, ACTIONS = (2, 3), 12, 3
VARIANTS = [
    replace(CONFIG, context=context, action_conditioning=conditioning)
    for context in ("clean", "masked")
    for conditioning in ("add", "prepend", "both")
] + [
    replace(PAPERS, changed_token_weight=3.0),
    PAPERS,
    replace(PAPERS, action_conditioning="prepend"),
    replace(CONFIG, action_conditioning="modulate"),
]


def name(config: DynamicsConfig) -> str:
    copying = "copying" if config.copy_head else "plain"
    return (
        f"{config.context}-{config.action_conditioning}-{copying}-{config.changed_token_weight:g}"
    )


def build(config: DynamicsConfig = CONFIG) -> Dynamics:
    torch.manual_seed(0)
    return Dynamics(config, GRID, VOCABULARY, ACTIONS)


def stirred(config: DynamicsConfig = CONFIG) -> Dynamics:
    """Untrained, but nothing is zero, so that all that goes in comes out."""
    model = build(config).eval()
    for weight in model.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight)
    return model


def counting(count: int, frames: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens that each action raises by 1, 2 or 3: the next frame needs the past and the action."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(0, VOCABULARY, (count, 1, 6), generator=generator)
    actions = torch.randint(0, ACTIONS, (count, frames - 1), generator=generator)
    raised = torch.cat([torch.zeros(count, 1, dtype=torch.int64), (actions + 1).cumsum(1)], dim=1)
    return (first + raised[:, :, None]) % VOCABULARY, actions


@torch.no_grad()
@pytest.mark.parametrize("config", VARIANTS, ids=name)
def test_cached_drafts_equal_the_plain_forward_over_three_windows(config: DynamicsConfig):
    model = stirred(config)
    tokens = torch.randint(0, VOCABULARY, (4, 12, 6))
    actions = torch.randint(0, ACTIONS, (4, 11))
    state = model.prefill(tokens[:, :2], actions[:, :1])
    for t in range(2, 12):
        draft = tokens[:, t].clone()
        draft[:, ::2] = model.mask_token
        context = model.step_context(actions[:, t - 1], state)
        cached = model.step_logits(draft, context, torch.arange(6).expand(4, -1))
        plain = model.logits(torch.cat([tokens[:, :t], draft[:, None]], 1), actions[:, :t])[:, -1]
        torch.testing.assert_close(cached, plain, atol=1e-4, rtol=0)
        positions = torch.rand(4, 6).argsort(dim=1)[:, :2]
        asked = model.step_logits(draft, context, positions)
        torch.testing.assert_close(asked, cached.take_along_dim(positions[..., None], 1))
        state = model.commit(tokens[:, t], context)


@torch.no_grad()
@pytest.mark.parametrize("config", [*VARIANTS[:3], VARIANTS[-1]], ids=name)
def test_features_of_a_clip_are_those_of_the_game_after_each_of_its_frames(config: DynamicsConfig):
    model = stirred(config)
    tokens = torch.randint(0, VOCABULARY, (2, 9, 6))
    actions = torch.randint(0, ACTIONS, (2, 8))
    whole = model.features(tokens, actions)
    state = model.prefill(tokens[:, :1], actions[:, :0])
    torch.testing.assert_close(state.features, whole[:, 0], atol=1e-5, rtol=0)
    for t in range(1, 9):
        state = model.commit(tokens[:, t], model.step_context(actions[:, t - 1], state))
        torch.testing.assert_close(state.features, whole[:, t], atol=1e-4, rtol=0)
        started = model.prefill(tokens[:, : t + 1], actions[:, :t])
        torch.testing.assert_close(started.features, whole[:, t], atol=1e-5, rtol=0)


@torch.no_grad()
def test_training_sees_what_play_sees():
    """The masked copy of each frame in the two-stream forward equals a cached draft of it."""
    model = stirred()
    tokens = torch.randint(0, VOCABULARY, (2, 7, 6))
    actions = torch.randint(0, ACTIONS, (2, 6))
    masked = torch.rand(2, 6, 6) < 0.6
    previous_action, level = model._previous_actions(actions), torch.zeros(2, dtype=torch.int64)
    trained = model.head(*model._two_streams(tokens, tokens, masked, previous_action, level))
    state = model.prefill(tokens[:, :1], actions[:, :0])
    for t in range(1, 7):
        context = model.step_context(actions[:, t - 1], state)
        draft = tokens[:, t].masked_fill(masked[:, t - 1], model.mask_token)
        played = model.step_logits(draft, context, torch.arange(6).expand(2, -1))
        torch.testing.assert_close(played, trained[:, t - 1], atol=1e-4, rtol=0)
        state = model.commit(tokens[:, t], context)


def train(model: Dynamics, batch: Callable[[int], tuple[Tensor, Tensor]], steps: int) -> Dynamics:
    """Trains on the batch of each step, with a rate that falls to zero in the second half."""
    rate = 1e-2
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=rate, fused=True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1, 2 * (1 - step / steps))
        loss, _ = model.loss(*batch(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("config", VARIANTS, ids=name)
def test_learns_the_rule_so_that_the_action_decides_the_frame(config: DynamicsConfig):
    model = build(replace(config, layers=1, mask_ratio="uniform"))
    # Every frame of a clean context is supervised, so fewer clips are enough.
    steps, clips = (60, 16) if config.context == "clean" else (140, 24)
    train(model, lambda step: counting(clips, frames=4, seed=step), steps)
    tokens, actions = counting(1, seed=999)
    state = model.prefill(tokens[:, :1], actions[:, :0])
    for action in range(ACTIONS):
        context = model.step_context(torch.tensor([action]), state)
        drawn = sample(
            lambda draft, positions, context=context: model.step_logits(draft, context, positions),
            GRID,
            model.mask_token,
            SamplingConfig(steps=2, temperature=0.0),
            torch.tensor([0]),
        )
        assert torch.equal(drawn, (tokens[:, 0] + action + 1) % VOCABULARY), action


@torch.no_grad()
def test_copying_starts_as_likely_as_all_else_together():
    model, (tokens, actions) = build().eval(), counting(8)
    blind = torch.full_like(tokens, model.mask_token)
    blind[:, 0] = tokens[:, 0]
    chances = model.logits(blind, actions).softmax(dim=-1)
    copied = chances[:, 1].gather(-1, tokens[:, 0, :, None])
    torch.testing.assert_close(copied, torch.full_like(copied, 0.5), atol=0.1, rtol=0)
    # A masked frame says nothing that could be copied; its successor has no favourite.
    assert chances[:, 2].max() < 0.3


def chance_of_copying(weight: float) -> float:
    """As learned from frames of which three in five repeat the one before, and nothing tells which.

    From two at a time, so that a loss divided by the sum of its weights would show.
    """
    model = build(replace(CONFIG, layers=1, changed_token_weight=weight)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    generator = torch.Generator().manual_seed(0)
    actions, chances = torch.zeros(2, 1, dtype=torch.int64), []
    for step in range(400):
        raised = (torch.rand(2, 2, 1, generator=generator) < 0.4).long().cumsum(dim=1)
        first = torch.randint(0, VOCABULARY, (2, 1, 6), generator=generator)
        tokens = (first + raised) % VOCABULARY
        if step >= 200 and step % 3 == 0:
            with torch.no_grad():
                drafts = torch.full_like(tokens[:, 1:], model.mask_token)
                logits = model.logits(torch.cat([tokens[:, :1], drafts], 1), actions)
                copied = logits[:, 1].softmax(dim=-1).gather(-1, tokens[:, 0, :, None])
                chances.append(copied.mean().item())
        loss, _ = model.loss(tokens, actions)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return sum(chances) / len(chances)


@pytest.mark.long
def test_weight_of_changes_does_not_make_them_likelier():
    plain = chance_of_copying(1.0)
    assert plain == pytest.approx(0.6, abs=0.08)
    assert chance_of_copying(8.0) == pytest.approx(plain, abs=0.08)


@torch.no_grad()
def test_corrupted_context_does_not_count_as_a_change(monkeypatch: pytest.MonkeyPatch):
    """Frames that stand still weigh the same whatever is wrong in what the model sees of them."""
    model = build().eval()
    tokens = torch.randint(0, VOCABULARY, (4, 1, 6)).expand(4, 5, 6).contiguous()
    wrong = (tokens + (torch.rand(tokens.shape) < 0.5)) % VOCABULARY
    level = torch.zeros(4, dtype=torch.int64)
    monkeypatch.setattr("genie.models.dynamics.corrupt_context", lambda *_: (level, wrong))
    _, logs = model.loss(tokens, torch.zeros(4, 4, dtype=torch.int64))
    assert logs["changed_cross_entropy"].isnan()


@pytest.mark.parametrize("config", VARIANTS, ids=name)
def test_read_everywhere_the_loss_is_that_of_what_is_masked(config, monkeypatch):
    """As on a GPU, which would have to wait for the number of masked tokens."""
    tokens, actions = counting(5)

    def told() -> tuple[Tensor, ...]:
        model = stirred(replace(config, context_corruption=0.2, label_smoothing=0.1)).train()
        torch.manual_seed(1)
        loss, logs = model.loss(tokens, actions)
        loss.backward()
        return (
            loss,
            *logs.values(),
            model.embedding.token.weight.grad,
            model.head.linear.weight.grad,
        )

    masked_only = told()
    monkeypatch.setattr("genie.models.masking._rows", lambda masked: None)
    for one, other in zip(masked_only, told(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["multiscale_weight", "diversity_weight"])
def test_each_loss_of_whole_frames_is_off_by_default_and_has_a_gradient(name: str):
    tokens, actions = counting(8)
    gradients = []
    for weight in (0.0, 3.0):
        model = build(replace(CONFIG, **{name: weight})).train()
        model.head.linear.bias.data[0] = 9.0  # it always draws the same
        torch.manual_seed(1)
        loss, logs = model.loss(tokens, actions)
        loss.backward()
        gradients.append(model.head.linear.weight.grad)
        assert set(logs) == {"masked_cross_entropy", "masked_accuracy", "changed_cross_entropy"}
    assert getattr(DynamicsConfig(), name) == 0
    assert (gradients[1] - gradients[0]).abs().max() > 1e-4
    with pytest.raises(UserError, match=name):
        replace(CONFIG, **{name: -1.0})


STILL, SIDE = 4, 3


def walking(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One token among others that each of four actions moves by a place, if that is inside."""
    generator = torch.Generator().manual_seed(seed)
    moves = torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1]])
    actions = torch.randint(0, 4, (count, 3), generator=generator)
    place = torch.randint(0, SIDE, (count, 2), generator=generator)
    tokens = torch.zeros(count, 4, SIDE, SIDE, dtype=torch.int64)
    for t in range(4):
        tokens[torch.arange(len(tokens)), t, place[:, 0], place[:, 1]] = 1
        if t < 3:
            place = (place + moves[actions[:, t]]).clamp(0, SIDE - 1)
    return tokens.flatten(2), actions


def walker(config: DynamicsConfig, label: Callable[[Tensor, Tensor], Tensor]) -> Dynamics:
    """Trained on `walking`, with the actions that `label` makes of tokens and true actions."""
    torch.manual_seed(0)
    model = Dynamics(replace(config, layers=1), (SIDE, SIDE), 4, STILL + 1)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        tokens, actions = walking(16, seed=step)
        return tokens, label(tokens, actions)

    return train(model, batch, 300)


def walked(model: Dynamics, tokens: Tensor, actions: Tensor) -> Tensor:
    """The next frame (N,9) as the model samples it, from (N,9) and an action each."""
    state = model.prefill(tokens[:, None], actions[:, None][:, :0])
    context = model.step_context(actions, state)
    return sample(
        lambda draft, positions: model.step_logits(draft, context, positions),
        (SIDE, SIDE),
        model.mask_token,
        SamplingConfig(steps=4, temperature=1.0),
        torch.arange(len(tokens)),
    )


def what_changed(tokens: Tensor, actions: Tensor) -> Tensor:
    """As latent actions are: whatever was pressed, a step in which nothing changes is `STILL`."""
    return actions.masked_fill((tokens[:, 1:] == tokens[:, :-1]).all(dim=-1), STILL)


@pytest.mark.long
def test_a_small_thing_goes_where_the_action_sends_it():
    model = walker(CONFIG, lambda tokens, actions: actions)
    tokens, actions = walking(64, seed=9999)
    drawn = walked(model, tokens[:, 0], actions[:, 0])
    assert (drawn == tokens[:, 1]).all(dim=1).float().mean() > 0.9


@pytest.mark.long
def test_a_button_that_cannot_be_followed_leaves_things_as_they_are():
    tokens, actions = walking(400, seed=9999)
    blocked = (tokens[:, 0] == tokens[:, 1]).all(dim=-1)
    intact = {}
    for share in (0.0, 0.5):
        model = walker(
            replace(CONFIG, mask_ratio="linear", static_action_dropout=share), what_changed
        )
        drawn = walked(model, tokens[:, 0], actions[:, 0])
        same = (drawn == tokens[:, 1]).all(dim=1).float()
        intact[share] = same[blocked].mean()
        assert same[~blocked].mean() > 0.75
    assert intact[0.5] > intact[0.0] + 0.2


def jumps(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Action 1 jumps, but only from the ground, token 0; what is in the air goes on until it lands.

    As latent actions are, those in the air say that no jump began.
    """
    generator = torch.Generator().manual_seed(seed)
    height = torch.randint(0, VOCABULARY, (count,), generator=generator)
    heights, actions = [height], []
    for _ in range(3):
        starts = (height == 0) & (torch.rand(count, generator=generator) < 0.5)
        height = torch.where(starts | (height > 0), (height + 1) % VOCABULARY, height)
        actions.append(starts.long())
        heights.append(height)
    return torch.stack(heights, 1)[..., None].expand(-1, -1, 6), torch.stack(actions, 1)


def test_with_noisy_actions_a_button_works_only_where_it_can():
    wrong = {}
    for noise in (0.0, 0.2):
        model = build(replace(CONFIG, layers=1, action_dropout=noise))
        train(model, lambda step: jumps(16, seed=step), 150)
        heights = torch.arange(VOCABULARY)
        clips = torch.stack([heights, torch.full_like(heights, model.mask_token)], 1)
        clips = clips[..., None].expand(-1, -1, 6)
        pressed = torch.ones(VOCABULARY, 1, dtype=torch.int64)
        chances = model.logits(clips, pressed)[:, 1].softmax(-1).mean(1)
        rising = chances[heights, (heights + 1) % VOCABULARY]
        assert rising[0] > 0.7
        wrong[noise] = (1 - rising[1:]).max()
    assert wrong[0.2] < 0.5 * wrong[0.0]


@pytest.mark.long
def test_a_token_heeds_those_drawn_already():
    """Nobody says where the walker goes, but once all others are drawn one place is left."""
    model = walker(replace(CONFIG, mask_ratio="linear"), lambda _, actions: actions * 0)
    tokens, actions = walking(64, seed=9999)
    tokens, actions = tokens[:, :2], actions[:, :1] * 0
    place = tokens[:, 1].argmax(dim=-1)

    def chance(drafts: Tensor) -> Tensor:
        logits = model.logits(torch.stack([tokens[:, 0], drafts], dim=1), actions)[:, 1]
        return logits.detach().softmax(dim=-1)[torch.arange(64), place, 1].mean()

    alone = tokens[:, 1].scatter(1, place[:, None], model.mask_token)
    assert chance(alone) > 1.5 * chance(torch.full_like(alone, model.mask_token))


def test_targets_are_the_tokens_and_not_the_mask(monkeypatch: pytest.MonkeyPatch):
    seen = []

    def spy(logits: torch.Tensor, targets: torch.Tensor, **_: object) -> torch.Tensor:
        seen.append(targets)
        return logits.sum(dim=-1)

    monkeypatch.setattr("genie.models.masking.F.cross_entropy", spy)
    for config in VARIANTS:
        build(config).train().loss(*counting(8))
    for targets in seen:
        assert targets.max() < VOCABULARY
        assert len(targets.unique()) == VOCABULARY


def test_loss_in_eval_mode_is_a_loss_too():
    model, batch = build(), counting(64)
    trained, evaluated = model.train().loss(*batch)[0], model.eval().loss(*batch)[0]
    assert evaluated > 0.5
    assert abs(trained - evaluated) < 0.3


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"window": 1}, "window"),
        ({"context_corruption": 2.0}, "context_corruption"),
        ({"layers": 0}, "layers"),
        ({"changed_token_weight": 0.0}, "changed_token_weight"),
        ({"static_action_dropout": 1.5}, "static_action_dropout"),
        ({"own_context": -0.1}, "own_context"),
        ({"own_context_passes": 0}, "own_context_passes"),
        ({"spatial_attention": False}, "action_conditioning"),
    ],
)
def test_impossible_values_name_the_field(change: dict, field: str):
    with pytest.raises(UserError, match=field):
        DynamicsConfig(**change)


@pytest.mark.parametrize("config", VARIANTS, ids=name)
def test_weights_are_read_by_the_names_of_0_1(config: DynamicsConfig):
    model, other = stirred(config), build(config)
    kept = {first_name(name): weight for name, weight in model.state_dict().items()}
    assert {"token.weight", "action.weight", "level.weight", "position"} <= kept.keys()
    assert {"head.weight", "head.bias"} <= kept.keys()
    for names in (kept, model.state_dict()):
        assert [current_name(name) for name in names] == list(model.state_dict())
    other.load_state_dict(kept)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_order_of_parameters_is_that_of_0_1():
    """Checkpoints of training know the state of the optimizer by it."""
    order = [first_name(name) for name, _ in build().named_parameters()]
    assert order[:4] == ["position", "token.weight", "action.weight", "level.weight"]
    assert all(name.startswith("transformer.") for name in order[4:-8])
    assert order[-8:-4] == ["head.weight", "head.bias", "previous.weight", "drawn.weight"]
    assert order[-4:] == ["around.weight", "around.bias", "copy.weight", "copy.bias"]


@pytest.mark.parametrize(("context", "steps"), [("clean", 40), ("masked", 80)])
def test_context_can_be_what_the_model_itself_predicts(context, steps):
    config = replace(CONFIG, layers=1, context=context, own_context=1.0, own_context_passes=2)
    tokens, actions = counting(8, seed=999)

    def own(model: Dynamics) -> Tensor:
        level = torch.zeros(len(tokens), dtype=torch.int64)
        return model._with_own_frames(tokens, model._previous_actions(actions), level)

    torch.manual_seed(0)
    model = build(replace(config, own_context=0.3))
    train(model, lambda step: counting(16, seed=step), steps).config = config
    before, after = own(build(config)), own(model)
    assert before.shape == after.shape == tokens.shape
    assert before.max() < VOCABULARY
    for seen in (before, after):
        assert torch.equal(seen[:, 0], tokens[:, 0])
    right = [(seen == tokens)[:, 1:].float().mean() for seen in (before, after)]
    assert right[0] < 0.2
    assert right[1] > right[0] + 0.3


@torch.no_grad()
def test_nothing_is_replaced_outside_training(monkeypatch: pytest.MonkeyPatch):
    given = []

    def streams(model, tokens, context, masked, previous_action, level):
        given.append((context, previous_action))
        return torch.zeros(*tokens[:, 1:].shape, 32), tokens[:, :-1]

    monkeypatch.setattr(Dynamics, "_two_streams", streams)
    config = replace(CONFIG, context_corruption=0.5, action_dropout=0.5, unconditional_fraction=0.5)
    model, (tokens, actions) = build(config), counting(20)
    model.eval().loss(tokens, actions)
    model.train().loss(tokens, actions)
    (context, previous_action), (changed, replaced) = given
    assert torch.equal(context, tokens)
    assert torch.equal(previous_action[:, 1:], actions)
    assert not torch.equal(changed, tokens)
    assert not torch.equal(replaced[:, 1:], actions)
