"""Real clips played again from their first frames, beside what really happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from genie.data.clips import ClipBatches
from genie.evaluation import figures
from genie.evaluation.figures import Figure
from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.evaluation.metrics.formulas import ERRORS, FrameErrors, errors_by_side
from genie.evaluation.metrics.metric import Headline, Metric, Section, beside, format_value
from genie.evaluation.protocol.rollouts import clip_seeds, random_actions

Rollouts = dict[str, UInt8[Tensor, "B N H W C"]]
OnRollout = Callable[[Tensor, Rollouts], None]

CONDITIONS = {
    "inferred": "inferred actions",
    "random": "random actions",
    "copy_last_frame": "copying the last frame",
    "random_codes": "random codes",
    "reconstruction": "reconstruction (the best possible)",
}
"""What is compared with the real frames, as the page calls it."""


def measure_rollouts(
    evaluation: Evaluation,
    choices: Sequence[ClipBatches],
    times: tuple[int, ...],
    on_rollout: OnRollout | None = None,
) -> dict[str, Any]:
    """Plays real clips again from their first frames and compares with what really happened.

    The conditions are those of `rollout_conditions`. ΔPSNR at t is the PSNR with inferred actions
    minus that with random ones (Bruce et al. 2024, arXiv 2402.15391, section 3, quoted at t = 4).
    So it is zero for a world that ignores its actions.

    Intervals are of 95 % over the means of episodes, each over all its clips of all seeds. Figures
    that are not means of clips have the `intervals` of a bootstrap over episodes.

    Args:
        evaluation: the evaluation.
        choices: clips for each seed, from that of the report on; all count together.
        times: steps after the prompt at which figures are quoted.
        on_rollout: called with every batch of the first choice of clips and its rollouts.
    """
    config, distance = evaluation.config, evaluation.distance
    horizon = choices[0].length - config.prompt_frames

    def played() -> Iterator[tuple[Tensor, Rollouts]]:
        for index, choice in enumerate(choices):
            seen = 0
            for frames in choice:
                rollouts = rollout_conditions(evaluation, frames, config.seed + index, seen)
                yield frames[:, config.prompt_frames :].cpu(), rollouts
                seen += len(frames)
                if on_rollout is not None and index == 0:
                    on_rollout(frames, rollouts)

    with evaluation.playing(f"{horizon} steps", 2 * horizon * sum(map(len, choices))):
        errors = errors_by_side(played(), [t - 1 for t in times], distance)
    episodes = torch.cat([choice.episodes for choice in choices])
    delta = _delta(errors)
    by_seed = delta.split([len(choice.starts) for choice in choices])
    spread = [formulas.interval_over_episodes(values, episodes) for values in delta.unbind(1)]
    at = {str(t): _at_time(errors, t - 1, episodes, distance is not None) for t in times}
    for t in times:
        means = [part[:, t - 1].nanmean().item() for part in by_seed]
        at[str(t)]["delta_psnr"]["by_seed"] = means
    return {
        "clips": len(episodes),
        "episodes": len(episodes.unique()),
        "at": at,
        "curves": {name: side.psnr().mean(0).tolist() for name, side in errors.items()},
        "delta_psnr_curve": delta.nanmean(0).tolist(),
        "delta_psnr_low": [line["low"] for line in spread],
        "delta_psnr_high": [line["high"] for line in spread],
        "seeds": [config.seed + index for index in range(len(choices))],
        "prompt_frames": config.prompt_frames,
        "horizon": horizon,
        "perceptual": distance.name if distance else None,
    }


def rollout_conditions(
    evaluation: Evaluation, frames: UInt8[Tensor, "B T H W C"], seed: int, first: int = 0
) -> Rollouts:
    """Predicts the N frames after the prompt under each of the conditions.

    - `inferred`: actions inferred from the real clip;
    - `random`: random actions, with the same noise;
    - `copy_last_frame`: the last frame of the prompt;
    - `random_codes`: frames of random codes, which know nothing of the game;
    - `reconstruction`: real frames after the tokenizer, which no rollout can beat.

    `first` is the number of the first clip, which with `seed` decides noise and random actions.
    """
    world, player = evaluation.world, evaluation.player
    prompt_frames = evaluation.config.prompt_frames
    prompt, horizon = frames[:, :prompt_frames], frames.shape[1] - prompt_frames
    seeds = clip_seeds(seed, first, len(frames))
    inferred = world.actions.infer(frames)[:, prompt_frames - 1 :]
    random = random_actions(world.config.num_actions, len(frames), horizon, seed, first)
    tokens = world.tokenizer.encode(frames)
    codes = random_codes(tokens[:, prompt_frames:], world.tokenizer.vocabulary, seeds)
    rebuilt = world.tokenizer.decode(tokens)
    return {
        "inferred": player.rollout(prompt, inferred, seeds),
        "random": player.rollout(prompt, random, seeds),
        "copy_last_frame": prompt[:, -1:].cpu().expand(-1, horizon, -1, -1, -1),
        "random_codes": world.tokenizer.decode(codes).cpu(),
        "reconstruction": rebuilt[:, prompt_frames:].cpu(),
    }


def random_codes(
    tokens: Int[Tensor, "B N S"], vocabulary: int, seeds: list[int]
) -> Int[Tensor, "B N S"]:
    """Samples as many tokens uniformly from the vocabulary, each clip from its own seed."""
    shape = tuple(tokens.shape[1:])
    sampled = [np.random.default_rng([seed, 2]).integers(vocabulary, size=shape) for seed in seeds]
    return torch.from_numpy(np.stack(sampled)).to(tokens.device)


def _delta(errors: dict[str, FrameErrors]) -> Tensor:
    return errors["inferred"].psnr() - errors["random"].psnr()


def _at_time(
    errors: dict[str, FrameErrors], frame: int, episodes: Tensor, perceptual: bool
) -> dict[str, Any]:
    interval = partial(formulas.interval_over_episodes, episodes=episodes)
    sides = {condition: side.at(slice(frame, frame + 1)) for condition, side in errors.items()}
    quoted: dict[str, Any] = {
        condition: side.summary()
        | {"psnr_interval": interval(side.psnr()[:, 0]), "intervals": side.intervals(episodes)}
        | ({"perceptual": side.perceptual.mean().item()} if perceptual else {})
        for condition, side in sides.items()
    }
    moving = sides["inferred"].moving_psnr() - sides["random"].moving_psnr()
    return quoted | {
        "delta_psnr": interval(_delta(sides)[:, 0]),
        "delta_psnr_moving": interval(moving[:, 0]),
    }


# --- in the report --------------------------------------------------------------------------


def _rollouts(evaluation: Evaluation) -> dict[str, Any]:
    config = evaluation.config

    def on_rollout(frames: Tensor, rollouts: Rollouts) -> None:
        if not any(figure.section == "rollouts" for figure in evaluation.figures):
            evaluation.figures += _clip_figures(frames, rollouts, evaluation)
        for key, measure in evaluation.rollout_measures.items():
            for side, part in measure(frames, rollouts).items():
                evaluation.kept[key][side].append(part)

    choices = _choices(evaluation, config.clip_frames, config.clips)
    return measure_rollouts(evaluation, choices, config.quoted, on_rollout)


def _long_rollouts(evaluation: Evaluation) -> dict[str, Any]:
    config, store = evaluation.config, evaluation.store
    if not config.long_quoted:
        raise Skipped("none were asked for.")
    length = config.prompt_frames + config.long_horizon
    if not any(e.split == config.split and e.length >= length for e in store.episodes):
        raise Skipped(f"the {config.split!r} split has no episode of {length} frames.")
    choices = _choices(evaluation, length, config.long_clips)
    return measure_rollouts(evaluation, choices, config.long_quoted)


def _choices(evaluation: Evaluation, length: int, count: int) -> list[ClipBatches]:
    seeds = range(evaluation.config.seed, evaluation.config.seed + evaluation.config.seeds)
    return [evaluation.select(length, count, seed=seed) for seed in seeds]


def _clip_figures(frames: Tensor, rollouts: Rollouts, evaluation: Evaluation) -> list[Figure]:
    config = evaluation.config
    frames = frames[: config.figure_clips].cpu()
    played = {"real video": frames[:, config.prompt_frames :]}
    played |= {side: rollouts[side] for side in ("reconstruction", "inferred", "random")}
    shown = {side: clips[: len(frames)] for side, clips in played.items()}
    animation = figures.gif(figures.side_by_side(shown), evaluation.world.config.fps)
    caption = (
        "Held-out clips: the real video, its reconstruction, and the world playing on with the "
        "actions inferred from the real video and with random ones."
    )
    prompts, times = frames[:, config.prompt_frames - 1], _columns(config.horizon)
    return [
        Figure("play", caption, animation, "headlines", "gif"),
        *(
            figures.clip_figure(i + 1, prompt, {side: c[i] for side, c in shown.items()}, times)
            for i, prompt in enumerate(prompts)
        ),
    ]


def _columns(horizon: int, most: int = 8) -> list[int]:
    """At most `most` steps from 1 to the horizon, denser at first."""
    spaced = np.geomspace(1, horizon, most).round().astype(int)
    return sorted({int(t) for t in spaced})


def quoted_step(section: Section) -> str:
    """Returns the step at which ΔPSNR is quoted: 4 as in the paper, or the last one before."""
    return str(max([int(t) for t in section["at"] if int(t) <= 4], default=1))


def _quoted(section: Section) -> dict[str, Any]:
    return section["at"][quoted_step(section)]


def _error(condition: str) -> Callable[[Section], float]:
    return lambda section: _quoted(section)[condition]["psnr_mean_error"]


def _certain(section: Section) -> bool:
    """Whether ΔPSNR stands out from chance by three standard errors."""
    delta = _quoted(section)["delta_psnr"]
    return delta["stderr"] is not None and delta["mean"] > 3 * delta["stderr"]


def _cells(section: Section) -> dict[str, str]:
    cells = {}
    for time, conditions in section["at"].items():
        psnr = (conditions[k]["psnr_mean_error"] for k in ("inferred", "copy_last_frame", "random"))
        label = f"rollout at t = {time}, PSNR of the mean error, dB (copying, random actions)"
        cells[label] = beside(*psnr)
        delta = conditions["delta_psnr"]
        mean, error = format_value(delta["mean"]), format_value(delta["stderr"])
        label = f"ΔPSNR at t = {time}, dB, ± standard error"
        cells[label] = f"{mean} ± {error}, n = {delta['clips']}"
    return cells


def _notes(evaluation: Evaluation, section: Section) -> Iterable[str]:
    if len(evaluation.clips.starts) > section["episodes"] == 1:
        yield "All clips are of one episode: the standard error of ΔPSNR is not known."


def _long_notes(evaluation: Evaluation, section: Section) -> Iterable[str]:
    config, reached = evaluation.config, evaluation.config.horizon
    if "skipped" not in section:
        reached, asked = config.long_horizon, config.seeds * config.long_clips
        if section["clips"] < asked:
            yield (
                f"{asked} clips of {config.prompt_frames + reached} frames were asked for; there "
                f"are {section['clips']} that do not overlap."
            )
    late = ", ".join(str(t) for t in config.times if t > reached)
    if late:
        yield f"Rollouts end at t = {reached}; t = {late} left out."


ROLLOUTS = Metric(
    key="rollouts",
    order=20,
    title="Playing real clips again",
    measure=_rollouts,
    cells=_cells,
    values={"conditions": CONDITIONS, "errors": ERRORS, "quoted_step": quoted_step},
    notes=_notes,
    headlines=(
        Headline(
            name=lambda section: f"Rollout at t = {quoted_step(section)}, PSNR of the mean error",
            unit="dB",
            value=_error("inferred"),
            baseline=("copying the prompt", _error("copy_last_frame")),
            score=lambda section: _error("inferred")(section) - _error("copy_last_frame")(section),
            limits=(1.0, 0.0),
            good="The world moves as the real one did, better than a still picture.",
            fair="The world is a little nearer to what happened than a still picture.",
            poor="A still picture would be nearer to what really happened.",
        ),
        Headline(
            name=lambda section: f"Control, ΔPSNR at t = {quoted_step(section)}",
            unit="dB",
            value=lambda section: _quoted(section)["delta_psnr"]["mean"],
            baseline=("a world that ignores its actions", 0.0),
            certain=_certain,
            limits=(1.0, 0.0),
            good="The world follows its actions.",
            fair="The world follows its actions measurably, but not strongly.",
            poor="No control that stands out from chance by three standard errors.",
        ),
    ),
)

LONG_ROLLOUTS = Metric(
    key="long_rollouts",
    order=30,
    title="Longer rollouts",
    measure=_long_rollouts,
    cells=_cells,
    values={"conditions": CONDITIONS},
    notes=_long_notes,
)
