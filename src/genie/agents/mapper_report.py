"""How good a mapper is, beside the commonest action and networks with as many labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from genie.agents.labelled_steps import LabelledSteps
from genie.agents.mapper import FitConfig, fit_mapper, fit_predictor, predict
from genie.core.config import require
from genie.core.progress import Tick, ignore_tick
from genie.evaluation.metrics import formulas
from genie.world.action_mapper import ActionMapper, Kind, smoothed_shares

COUNTS = (50, 100, 200, 500, 1000, 2000, 5000)
"""Labelled steps for which the curve is measured."""
KINDS: tuple[Kind, ...] = ("dictionary", "network")
Section = dict[str, Any]


def figures(predicted: Int[Tensor, " n"], true: Int[Tensor, " n"], names: Sequence[str]) -> Section:
    """Returns how often predictions are right.

    Returns:
        `accuracy`, the `recall` of each action that occurs, and their mean, `balanced_accuracy`,
        in which rare actions count as much as frequent ones.
    """
    right = (predicted == true).double()
    recall = {names[action]: right[true == action].mean().item() for action in true.unique()}
    balanced = sum(recall.values()) / len(recall)
    return {"accuracy": right.mean().item(), "balanced_accuracy": balanced, "recall": recall}


def measure_mapper(mapper: ActionMapper, held_out: LabelledSteps) -> dict[str, Section]:
    """Measures both directions of a mapper on labelled steps that it was not made from.

    Args:
        mapper: takes the likeliest action, real and latent.
        held_out: labelled steps.

    Returns:
        Figures `to_real` and `to_latent`. `sampled` is the accuracy where actions are sampled in
        proportion, as in the paper.

    Raises:
        UserError: the true actions are not those of the mapper.
    """
    require(
        list(held_out.names) == mapper.names,
        f"the store has the actions {', '.join(held_out.names)}, the mapper has "
        f"{', '.join(mapper.names)}; measure it on videos of its own game",
    )
    batches = zip(
        *(part.split(256) for part in (held_out.frames[:, 0], held_out.latent, held_out.true)),
        strict=True,
    )
    parts = [
        (mapper.real_probabilities(now, latent), mapper.latent_probabilities(now, true))
        for now, latent, true in batches
    ]
    real, latent = (torch.cat(part) for part in zip(*parts, strict=True))
    codes = [str(code) for code in range(held_out.num_actions)]
    return {
        "to_real": _figures_of(real, held_out.true, held_out.names),
        "to_latent": _figures_of(latent, held_out.latent, codes),
    }


def _figures_of(probabilities: Tensor, wanted: Tensor, names: Sequence[str]) -> Section:
    sampled = probabilities.gather(1, wanted[:, None]).mean().item()
    return figures(probabilities.argmax(-1), wanted, names) | {"sampled": sampled}


def measure_baselines(
    steps: LabelledSteps, held_out: LabelledSteps, seed: int, config: FitConfig
) -> dict[str, Section]:
    """Measures what names the true actions without latent ones, from the same labelled steps.

    Returns:
        Figures of `commonest`, which always says the commonest true action. `frame_alone` is a
        network that sees the frame acted on. `supervised` also sees the frame it led to.
    """
    counts = steps.counts.sum(0)
    commonest = torch.full_like(held_out.true, int(counts.argmax()))
    found = {"commonest": figures(commonest, held_out.true, held_out.names)}
    for name, frames in (("frame_alone", 1), ("supervised", 2)):
        nothing, table = torch.zeros_like(steps.true), smoothed_shares(counts[None])
        seen = steps.frames[:, :frames]
        network = fit_predictor(seen, nothing, steps.true, table, seed, config)
        logits = predict(network, held_out.frames[:, :frames], torch.zeros_like(held_out.true))
        found[name] = figures(logits.argmax(-1), held_out.true, held_out.names)
    return found


def measure_labels(
    pool: LabelledSteps,
    held_out: LabelledSteps,
    labels: int,
    repeats: int = 5,
    *,
    kinds: Sequence[Kind] = KINDS,
    baselines: bool = True,
    config: FitConfig | None = None,
    on_step: Tick = ignore_tick,
) -> Section:
    """Makes mappers from a number of labelled steps and measures them on held-out ones.

    Args:
        pool: steps in random order that labels are sampled from.
        held_out: steps that are measured.
        labels: N.
        repeats: how often N steps are sampled. Samples share no step where the pool allows it.
        kinds: of the mappers.
        baselines: whether to measure the baselines too.
        config: of the training of networks.
        on_step: called after each repeat.

    Returns:
        `labels`, whether the samples are `disjoint`, and for each kind and baseline its figures,
        each as the mean over repeats with an interval of 95 %. Samples that share steps make it
        too narrow.
    """
    config, runs = config or FitConfig(), list[Section]()
    for seed in range(repeats):
        steps = pool.sample(labels, seed)
        run: Section = {
            kind: measure_mapper(fit_mapper(steps, kind, seed=seed, config=config), held_out)
            for kind in kinds
        }
        runs.append(run | (measure_baselines(steps, held_out, seed, config) if baselines else {}))
        on_step()
    about = {"labels": labels, "repeats": repeats, "disjoint": repeats * labels <= len(pool)}
    return about | _over_runs(runs, _interval)


def _over_runs(runs: Sequence[Any], join: Callable[[list[float]], Any]) -> Any:
    """Joins the numbers at each place of several equal sections."""
    if isinstance(runs[0], dict):
        return {key: _over_runs([run[key] for run in runs], join) for key in runs[0]}
    return join(list(runs))


def _interval(values: list[float]) -> Section:
    found = formulas.mean_interval(torch.tensor(values, dtype=torch.float64))
    known = len(values) > 1  # JSON has no word for what is not a number
    return {key: found[key] for key in (("mean", "low", "high") if known else ("mean",))}
