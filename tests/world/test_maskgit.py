import math
from itertools import pairwise

import pytest
import torch

from genie.core.config import UserError
from genie.world.maskgit import (
    SamplingConfig,
    confidence,
    fixed_order,
    guided,
    halton_order,
    mask_ratio,
    masked_counts,
    sample,
    sample_tokens,
    step_counts,
)
from genie.world.rng import gumbel

SCHEDULES, ORDERS = ("cosine", "linear", "exponential"), ("confidence", "random", "halton")
GRID, VOCABULARY = (4, 5), 7


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_fall_from_all_to_none(schedule: str):
    shares = [mask_ratio(schedule, step / 10) for step in range(11)]
    assert shares[0] == pytest.approx(1)
    assert shares[-1] == pytest.approx(0, abs=1e-12)
    assert all(a > b for a, b in pairwise(shares))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 8, 25, 100])
def test_every_pass_settles_at_least_one_token(schedule: str, steps: int):
    counts = [64, *masked_counts(64, steps, schedule)]
    assert counts[-1] == 0
    assert len(counts) - 1 == min(steps, 64)
    assert all(a > b for a, b in pairwise(counts))


def test_cosine_counts_by_hand():
    assert masked_counts(64, 4, "cosine") == [59, 45, 24, 0]


def test_halton_visits_every_cell_once_and_spreads():
    order = halton_order((8, 8))
    assert sorted(order) == list(range(64))
    quarters = {(cell // 8 // 4, cell % 8 // 4) for cell in order[:6]}
    assert len(quarters) == 4


def test_temperature_has_an_effect():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0]).expand(1, 4000, 4)
    noise = gumbel(torch.tensor([0]), (4000, 4))
    shares = {}
    for temperature in (0.0, 0.5, 1.0, 4.0):
        tokens = sample_tokens(logits, noise, temperature)
        shares[temperature] = (tokens == 0).float().mean().item()
    assert shares[0.0] == 1
    assert shares[0.5] > shares[1.0] + 0.1 > shares[4.0] + 0.2
    expected = torch.tensor([2.0, 1.0, 0.0, -1.0]).softmax(0)[0].item()
    assert shares[1.0] == pytest.approx(expected, abs=0.03)


def test_top_k_leaves_the_rest_out():
    logits = torch.randn(1, 500, 20)
    tokens = sample_tokens(logits, gumbel(torch.tensor([0]), (500, 20)), 5.0, top_k=3)
    allowed = logits.topk(3, dim=-1).indices
    assert (tokens[..., None] == allowed).any(dim=-1).all()


def run(order: str, steps: int = 4, seeds: tuple[int, ...] = (0, 1)) -> tuple[torch.Tensor, list]:
    torch.manual_seed(0)
    table, drafts = torch.randn(20, VOCABULARY), []

    def logits(tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        assert (tokens.gather(1, positions) == VOCABULARY).all()
        drafts.append(tokens.clone())
        return table[positions] + 0.1 * tokens.float().sum(1)[:, None, None]

    config = SamplingConfig(steps=steps, order=order)
    return sample(logits, GRID, VOCABULARY, config, torch.tensor(seeds)), drafts


@pytest.mark.parametrize("order", ORDERS)
def test_drawn_tokens_are_fed_back_and_kept(order: str):
    tokens, drafts = run(order)
    assert len(drafts) == 4
    assert (drafts[0] == VOCABULARY).all()
    for draft, after in zip(drafts, [*drafts[1:], tokens], strict=True):
        settled = draft != VOCABULARY
        assert torch.equal(draft[settled], after[settled])
    left = [(draft == VOCABULARY).sum(dim=1).tolist() for draft in drafts]
    assert left == [[20, 20], [18, 18], [14, 14], [7, 7]]
    assert (tokens < VOCABULARY).all()


@pytest.mark.parametrize("order", ORDERS)
def test_the_seed_decides_and_players_do_not_touch_each_other(order: str):
    both, _ = run(order)
    assert torch.equal(both, run(order)[0])
    assert not torch.equal(both, run(order, seeds=(2, 3))[0])
    assert torch.equal(both[1:], run(order, seeds=(1,))[0])


def test_orders_settle_different_places_first():
    firsts = {order: (run(order)[1][1] != VOCABULARY)[0] for order in ORDERS}
    cells = firsts["halton"].nonzero().flatten().tolist()
    assert sorted(halton_order(GRID)[:2]) == cells
    assert not torch.equal(firsts["confidence"], firsts["random"])


def test_confident_places_come_first():
    table = torch.zeros(20, VOCABULARY)
    table[7, 2] = table[13, 4] = 20.0
    drafts = []

    def logits(tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        drafts.append(tokens.clone())
        return table[positions]

    sample(logits, GRID, VOCABULARY, SamplingConfig(4, order="confidence"), torch.tensor([0]))
    assert (drafts[1][0] != VOCABULARY).nonzero().flatten().tolist() == [7, 13]


def test_guidance_favours_what_the_action_made_likelier():
    given, unknown = torch.tensor([[[1.0, 2.0, 0.0]]]), torch.tensor([[[1.0, 0.0, 0.0]]])
    shares = [guided(given, unknown, g).softmax(-1)[0, 0, 1].item() for g in (0.0, 1.0, 3.0)]
    assert shares[0] == pytest.approx(given.softmax(-1)[0, 0, 1].item())
    assert shares == sorted(shares)
    assert shares[2] > 0.99
    assert torch.allclose(guided(given, unknown, 1.0), 2 * given - unknown)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"temperature": -1.0},
        {"temperature": math.inf},
        {"top_k": -1},
        {"guidance": -0.5},
        {"guidance": math.nan},
        {"reencode_every": -1},
    ],
)
def test_values_outside_their_range_name_the_field(change: dict):
    with pytest.raises(UserError, match=next(iter(change))):
        SamplingConfig(**change)


@pytest.mark.parametrize("order", ["random", "halton", "confidence"])
def test_the_first_tokens_are_all_drawn_before_the_others(order: str):
    config, seen = SamplingConfig(steps=4, order=order), []

    def logits(tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        seen.append(tokens.clone())
        return torch.randn(*positions.shape, 5)

    drawn = sample(logits, (5, 4), 5, config, torch.tensor([1, 2]), first=4)
    assert (drawn < 5).all()
    early = [tokens for tokens in seen if (tokens[:, :4] == 5).any()]
    assert early
    assert all((tokens[:, 4:] == 5).all() for tokens in early)
    assert len(seen) == 4 == len(step_counts(20, config, 4))
    assert len(step_counts(20, SamplingConfig(steps=1), 4)) == 2
    assert step_counts(20, config) == masked_counts(20, 4, "cosine")


def test_schedules_by_their_formulas():
    assert mask_ratio("cosine", 1 / 3) == pytest.approx(math.sqrt(3) / 2)
    assert mask_ratio("linear", 0.25) == 0.75
    assert mask_ratio("exponential", 0.5) == pytest.approx(0.92414, abs=1e-5)


def test_halton_order_by_hand():
    assert halton_order((2, 3)) == (4, 2, 3, 1, 5, 0)
    assert fixed_order("halton", (2, 3), torch.tensor([5])).tolist() == [[4, 2, 3, 1, 5, 0]]
    assert fixed_order("halton", (2, 3), torch.tensor([5]), 3).tolist() == [[2, 1, 0, 4, 3, 5]]


def test_counts_of_two_parts_by_hand():
    assert step_counts(20, SamplingConfig(steps=4), 8) == [17, 12, 8, 0]


def test_confidence_is_the_log_probability():
    logits = torch.randn(2, 3, VOCABULARY, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([[0, 6, 2], [3, 3, 1]])
    expected = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    assert torch.allclose(confidence(logits, tokens), expected)


def test_guidance_doubles_the_calls_of_the_model():
    assert SamplingConfig(steps=5, reencode_every=3).model_calls == 5
    assert SamplingConfig(steps=5, guidance=0.5).model_calls == 10


def constant(tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Logits that are the same everywhere, those of the last token the largest."""
    return torch.linspace(1, 2, VOCABULARY).expand(*positions.shape, VOCABULARY)


def test_temperature_0_takes_the_most_likely_token():
    config = SamplingConfig(steps=3, temperature=0)
    assert (sample(constant, GRID, VOCABULARY, config, torch.tensor([1, 2])) == 6).all()


def test_a_seed_gives_the_tokens_that_it_always_gave():
    """When this changes, `SAMPLER_VERSION` must: a replay would show other frames."""
    tokens = sample(constant, GRID, VOCABULARY, SamplingConfig(steps=3), torch.tensor([7]))
    expected = [0, 3, 4, 4, 2, 4, 6, 6, 0, 6, 0, 3, 5, 4, 6, 2, 2, 3, 6, 5]
    assert tokens.tolist() == [expected]
