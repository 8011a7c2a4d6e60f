"""The headline figures of a report, each with its baseline and an explanation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Headline = dict[str, Any]

GOOD, FAIR, POOR = "good", "fair", "poor"


def headlines(report: Mapping[str, Any]) -> list[Headline]:
    """Returns the figures to read first.

    Each has a `name`, `value`, `unit`, the `baseline` it stands beside and what that is
    (`baseline_name`), a `verdict` (good, fair or poor) and an `explanation`. The limits are rules
    of thumb, the figures are what counts.
    """
    made = [_tokenizer(report), _usage(report), _codes(report), _gain(report)]
    made += [_rollout(report), _delta(report), _buttons(report)]
    made += [_separation(report["separation"])] if "ratio" in report["separation"] else []
    made += [_long_play(report["coherence"])] if "rollouts" in report["coherence"] else []
    if "mutual_information" in report["supervised"]:
        made.append(_labels(report))
    if "share_of_ceiling" in report["supervised"]:
        made.append(_ceiling(report))
    if "inferred" in report["action_following"]:
        made.append(_following(report))
    if "mean" in report["closed_loop"] and report["closed_loop"]["mean"]["relative"] is not None:
        made.append(_closed_loop(report))
    if "mean" in report["scrolling"]:
        made.append(_scrolling(report))
    return made


def format_summary(report: Mapping[str, Any]) -> str:
    """Returns the headlines and notes as text for a terminal, one line each."""
    lines = [
        f"{line['verdict']:>4}  {line['name']}: {format_value(line['value'], line['unit'])} "
        f"({line['baseline_name']}: {format_value(line['baseline'], line['unit'])})"
        for line in report["headlines"]
    ]
    return "\n".join([*lines, *(f"note  {note}" for note in report["notes"])])


def markdown(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the figures of one or several worlds, by name, as a Markdown table."""
    columns, rows = paper_rows(reports)
    lines = [["", *columns], ["---"] * (1 + len(columns))]
    lines += [[name, *cells] for name, cells in rows.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def paper_rows(
    reports: Mapping[str, Mapping[str, Any]],
) -> tuple[list[str], dict[str, list[str]]]:
    """Returns the figures that a paper quotes: names of the worlds, and a row of cells per figure.

    In brackets stands the baseline that the name of the row names; a dash where a report lacks it.
    """
    found = {name: _paper_figures(report) for name, report in reports.items()}
    labels = dict.fromkeys(label for figures in found.values() for label in figures)
    return list(found), {label: [f.get(label, "–") for f in found.values()] for label in labels}


def _paper_figures(report: Mapping[str, Any]) -> dict[str, str]:
    def beside(value: Any, *baselines: Any) -> str:
        return f"{format_value(value)} ({', '.join(map(format_value, baselines))})"

    ours, copy = (report["tokenizer"][k] for k in ("reconstruction", "copy_last_frame"))
    names = {
        "psnr_mean_error": "PSNR of the mean error, dB",
        "psnr_moving": "PSNR on moving pixels, dB",
        "ssim": "SSIM",
    }
    cells = {
        f"tokenizer, {name} (copying the last frame)": beside(ours[key], copy[key])
        for key, name in names.items()
    }
    actions, masked = report["latent_actions"], report["dynamics"]
    cells["latent actions in use, perplexity (of)"] = beside(
        actions["perplexity"], actions["count"]
    )
    cells["masked cross-entropy, nats (shuffled actions)"] = beside(
        masked["inferred"]["cross_entropy"], masked["shuffled"]["cross_entropy"]
    )
    times = dict(report["rollouts"]["at"]) | report["long_rollouts"].get("at", {})
    for time, sides in times.items():
        psnrs = [sides[k]["psnr_mean_error"] for k in ("inferred", "copy_last_frame", "random")]
        label = f"rollout at t = {time}, PSNR of the mean error, dB (copying, random actions)"
        cells[label] = beside(*psnrs)
        delta = sides["delta_psnr"]
        cells[f"ΔPSNR at t = {time}, dB, ± standard error"] = (
            f"{format_value(delta['mean'])} ± {format_value(delta['stderr'])}, n = {delta['clips']}"
        )
    cells["held buttons, distance between actions over seeds (ignored)"] = beside(
        report["held_actions"]["ratio"], 1
    )
    cells |= _played_figures(report)
    labels = report["supervised"]
    if "mutual_information" in labels:
        cells["mutual information with true actions, nats (chance)"] = beside(
            labels["mutual_information"], labels["chance"]["mutual_information"]
        )
    for line in labels.get("action_maps", []):
        label = f"steps named right with {line['labels']} labels (the commonest)"
        cells[label] = beside(line["accuracy"], line["most_common"])
    if "action_alignment" in labels:
        cells |= _agreement_cells(labels["action_alignment"])
    following, held = report["action_following"], report["closed_loop"]
    if "inferred" in following:
        label = "actions read back from rollouts, macro F1 (real video, random actions, commonest)"
        sides = ("inferred", "real", "random", "majority")
        cells[label] = beside(*(following[side]["macro_f1"] for side in sides))
    if "mean" in held:
        mean, steps = held["mean"], held["steps"]
        label = f"games that go the way of a button held {steps} steps (a random button)"
        cells[label] = beside(mean["share"], mean["chance"])
        label = f"the same over {held['real_steps']} steps, relative to real video (random button)"
        cells[label] = beside(mean["relative"], mean["relative_chance"])
    if "mean" in report["scrolling"]:
        mean, steps = report["scrolling"]["mean"], report["scrolling"]["steps"]
        label = f"games that scroll the way of a button held {steps} steps (random button, real)"
        cells[label] = beside(mean["share"], mean["chance"], mean["real"])
    return cells


def _agreement_cells(action_alignment: Mapping[str, Any]) -> dict[str, str]:
    cells = {}
    for kind, part in action_alignment.items():
        sides = [
            part["conditions"][side] for side in ("latent", "random", "kmeans", "past", "ceiling")
        ]
        for key, name in (
            ("mutual_information", "mutual information, nats"),
            ("normalised_mutual_information", "normalised mutual information"),
        ):
            ours, *others = (format_value(side[key]) for side in sides)
            label = f"{name}, {kind} true actions (random codes, k-means, the past, ceiling)"
            cells[label] = f"{ours} ({', '.join(others)})"
        cells[f"share of the ceiling, {kind} true actions"] = format_value(part["share_of_ceiling"])
    return cells


def _played_figures(report: Mapping[str, Any]) -> dict[str, str]:
    apart, frechet, cells = report["separation"], report["frechet"], dict[str, str]()
    if "ratio" in apart:
        label = "next frames, variance between buttons over within (chance, 95 % below)"
        cells[label] = f"{format_value(apart['ratio'])} ({format_value(apart['null_95'])})"
    distance = frechet["distance"]
    label = f"Fréchet distance ({frechet['extractor']}) of rollouts (copying, reconstruction)"
    others = (
        f"{format_value(distance['copy_last_frame'])}, {format_value(distance['reconstruction'])}"
    )
    cells[label] = f"{format_value(distance['inferred'])} ({others})"
    for play in report["coherence"].get("rollouts", []):
        seconds = play["coherent_seconds"]
        label = f"coherent seconds of {play['seconds']:.0f} (real episodes of up to)"
        low, high = format_value(seconds["low"]), format_value(seconds["high"])
        cells[label] = (
            f"{format_value(seconds['mean'])} [{low}, {high}] ({real_seconds(play)}), "
            f"n = {play['games']}"
        )
    return cells


def real_seconds(play: Mapping[str, Any]) -> str:
    """Returns for how long real episodes are coherent, and how long the longest was watched."""
    real = play["real_coherent"]
    return (
        f"{format_value(real['mean_seconds'])} of {format_value(real['up_to_seconds'])}"
        if real
        else "–"
    )


def format_value(value: Any, unit: str = "") -> str:
    """Returns a number as text, short enough to read; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, int) or value == 0:
        return f"{int(value)} {unit}".rstrip()
    digits = 3 if abs(value) < 0.1 else 2
    return f"{round(value, digits) + 0.0:.{digits}f} {unit}".rstrip()


def quoted_step(report: Mapping[str, Any]) -> str:
    """Returns the step at which ΔPSNR is quoted: 4 as in the paper, or the last one before."""
    return str(max([int(t) for t in report["rollouts"]["at"] if int(t) <= 4], default=1))


def _headline(
    name: str,
    value: Any,
    unit: str,
    baseline: Any,
    baseline_name: str,
    verdict: str,
    explanation: str,
) -> Headline:
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "baseline": baseline,
        "baseline_name": baseline_name,
        "verdict": verdict,
        "explanation": explanation,
    }


def _grade(value: float | None, good: float, fair: float) -> str:
    if value is None:
        return POOR
    return GOOD if value >= good else FAIR if value >= fair else POOR


def _tokenizer(report: Mapping[str, Any]) -> Headline:
    ours, copy = (report["tokenizer"][k] for k in ("reconstruction", "copy_last_frame"))
    verdict = _grade(ours["psnr_mean_error"], 30, 24)
    explanation = {
        GOOD: "Frames come back from their tokens with their details.",
        FAIR: "Frames come back recognisable but soft: small things may be lost.",
        POOR: "Much is lost between frames and tokens; nothing after it can be sharper. Train the "
        "tokenizer longer.",
    }[verdict]
    name = "Sharpness of the tokenizer, PSNR of the mean error"
    return _headline(
        name, ours["psnr_mean_error"], "dB", copy["psnr_mean_error"], "copying the last frame",
        verdict, explanation,
    )  # fmt: skip


def _usage(report: Mapping[str, Any]) -> Headline:
    part = report["latent_actions"]
    verdict = _grade(part["perplexity"], part["count"] / 2, min(2.0, part["count"] / 2))
    explanation = {
        GOOD: "Most buttons are in use.",
        FAIR: "A few buttons explain nearly everything; the others rarely mean something.",
        POOR: "The latent actions have collapsed: nearly everything is one button.",
    }[verdict]
    name = "Latent actions in use, perplexity"
    return _headline(
        name, part["perplexity"], "", part["count"], "all used equally", verdict, explanation
    )


def _codes(report: Mapping[str, Any]) -> Headline:
    sides = report["latent_actions"]["next_frame"]
    ours, random = (sides[k]["psnr_moving"] for k in ("inferred", "random"))
    verdict = POOR if ours is None else _grade(ours - random, 1.0, 0.25)
    explanation = {
        GOOD: "The inferred action tells a lot about what moves next.",
        FAIR: "The inferred action tells something about what moves next.",
        POOR: "The inferred action tells next to nothing about what moves.",
    }[verdict]
    name = "Next frame from the latent action, PSNR on moving pixels"
    return _headline(name, ours, "dB", random, "random actions", verdict, explanation)


def _gain(report: Mapping[str, Any]) -> Headline:
    part = report["dynamics"]
    ours, shuffled = (part[k]["cross_entropy"] for k in ("inferred", "shuffled"))
    verdict = _grade((shuffled - ours) / max(shuffled, 1e-9), 0.02, 0.002)
    explanation = {
        GOOD: "The dynamics need the right action to predict what comes.",
        FAIR: "The dynamics use the action a little.",
        POOR: "The dynamics predict as well with wrong actions: they ignore the buttons.",
    }[verdict]
    name = "Masked tokens, cross-entropy"
    return _headline(name, ours, "nats", shuffled, "shuffled actions", verdict, explanation)


def _rollout(report: Mapping[str, Any]) -> Headline:
    time = quoted_step(report)
    sides = report["rollouts"]["at"][time]
    ours, copy = (sides[k]["psnr_mean_error"] for k in ("inferred", "copy_last_frame"))
    verdict = _grade(ours - copy, 1.0, 0.0)
    explanation = {
        GOOD: "The world moves as the real one did, better than a still picture.",
        FAIR: "The world is a little nearer to what happened than a still picture.",
        POOR: "A still picture would be nearer to what really happened.",
    }[verdict]
    name = f"Rollout with inferred actions at t = {time}, PSNR of the mean error"
    return _headline(name, ours, "dB", copy, "copying the prompt", verdict, explanation)


def _delta(report: Mapping[str, Any]) -> Headline:
    time = quoted_step(report)
    delta = report["rollouts"]["at"][time]["delta_psnr"]
    mean, stderr = delta["mean"], delta["stderr"]
    certain = stderr is not None and mean > 3 * stderr
    verdict = _grade(mean if certain else None, 1.0, 0.0)
    explanation = {
        GOOD: "The world obeys its buttons.",
        FAIR: "The world obeys its buttons measurably, but not strongly.",
        POOR: "No control that stands out from chance by three standard errors.",
    }[verdict]
    name = f"Control, ΔPSNR at t = {time}"
    return _headline(
        name, mean, "dB", 0.0, "a world that ignores its buttons", verdict, explanation
    )


def _buttons(report: Mapping[str, Any]) -> Headline:
    ratio = report["held_actions"]["ratio"]
    verdict = _grade(ratio, 1.5, 1.1)
    explanation = {
        GOOD: "Holding different buttons leads to clearly different pictures.",
        FAIR: "Holding different buttons changes more than chance does, but not by much.",
        POOR: "Holding different buttons changes no more than chance does.",
    }[verdict]
    name = "Held buttons, distance between actions over distance between seeds"
    return _headline(name, ratio, "", 1.0, "a world that ignores its buttons", verdict, explanation)


def _labels(report: Mapping[str, Any]) -> Headline:
    part = report["supervised"]
    ours, chance = part["mutual_information"], part["chance"]["mutual_information_95"]
    verdict = POOR if ours <= chance else GOOD if part["share_of_true_entropy"] >= 0.3 else FAIR
    explanation = {
        GOOD: "Latent actions agree well with the true buttons.",
        FAIR: "Latent actions agree with the true buttons more than chance does. Many presses "
        "leave no trace in the picture, so full action_alignment is out of reach.",
        POOR: "Latent actions tell nothing about the true buttons.",
    }[verdict]
    name = "Latent against true actions, mutual information"
    return _headline(
        name, ours, "nats", chance, "chance, 95 % of shuffles below", verdict, explanation
    )


def _ceiling(report: Mapping[str, Any]) -> Headline:
    labels = report["supervised"]
    part = labels["action_alignment"]["raw"]
    ours, most = (
        labels["share_of_ceiling"]["raw"],
        part["conditions"]["ceiling"]["mutual_information"],
    )
    clusters = part["conditions"]["kmeans"]["mutual_information"]
    verdict = _grade(ours, 0.7, 0.35)
    explanation = {
        GOOD: "The latent actions tell most of what a network trained with the true actions can "
        "read off the picture.",
        FAIR: "The latent actions tell a part of what a network trained with the true actions can "
        "read off the picture.",
        POOR: "A network trained with the true actions reads much more off the picture.",
    }[verdict]
    name = "Latent against true actions, share of what can be read off the picture"
    baseline = clusters / most if most > 0 else None
    return _headline(name, ours, "", baseline, "k-means on frame differences", verdict, explanation)


def _following(report: Mapping[str, Any]) -> Headline:
    part = report["action_following"]
    ours, real, chance = (part[side]["macro_f1"] for side in ("inferred", "real", "random"))
    gained = (ours - chance) / (real - chance) if real > chance else None
    verdict = _grade(gained, 0.7, 0.3)
    explanation = {
        GOOD: "What the world draws shows the action that was played nearly as real video does.",
        FAIR: "What the world draws shows the action that was played, less clearly than real "
        "video.",
        POOR: "What the world draws hardly shows which action was played.",
    }[verdict]
    explanation += f" Real video: {format_value(real)}."
    name = "True action read back from rollouts, macro F1"
    return _headline(name, ours, "", chance, "random actions", verdict, explanation)


def _closed_loop(report: Mapping[str, Any]) -> Headline:
    mean, steps = report["closed_loop"]["mean"], report["closed_loop"]["real_steps"]
    verdict = _grade(mean["relative"], 0.8, 0.5)
    if mean["relative"] <= (mean["relative_chance"] or 0):
        verdict = POOR
    explanation = {
        GOOD: "A held button takes the game where the real one goes.",
        FAIR: "A held button often takes the game where the real one goes.",
        POOR: "A held button seldom takes the game where the real one goes.",
    }[verdict]
    name = f"Buttons held {steps} steps: games that go their way, relative to the real game"
    return _headline(
        name, mean["relative"], "", mean["relative_chance"], "a random button", verdict, explanation
    )


def _separation(part: Mapping[str, Any]) -> Headline:
    separated = part["ratio"] > part["null_95"] and part["p"] < 0.05
    verdict = POOR if not separated else GOOD if part["share_separated"] >= 0.5 else FAIR
    explanation = {
        GOOD: "In most states each button leads somewhere else, beyond what noise does.",
        FAIR: "Buttons lead somewhere else, but in fewer than half of the states for certain.",
        POOR: "Next frames of different buttons differ no more than those of one button.",
    }[verdict]
    name = "Next frames, variance between buttons over within"
    return _headline(
        name, part["ratio"], "", part["null_95"], "chance, 95 % below", verdict, explanation
    )


def _long_play(part: Mapping[str, Any]) -> Headline:
    play = part["rollouts"][0]
    ours, real = play["coherent_seconds"]["mean"], play["real_coherent"]
    share = play["coherent_steps_beside_real"] / max(real["mean_steps"], 1e-9) if real else None
    verdict = _grade(share, 0.8, 0.4)
    explanation = {
        GOOD: "Games stay what they are nearly as long as real video does, as far as that goes.",
        FAIR: "Games last for a good part of play, then freeze or drift away.",
        POOR: "Games soon freeze or drift away from what the video shows.",
    }[verdict]
    name = f"Long play, coherent seconds of {format_value(play['seconds'])}"
    if real is None:
        beside, baseline = "real episodes are too short to tell", None
    else:
        beside = f"real episodes, of up to {format_value(real['up_to_seconds'], 's')}"
        baseline = real["mean_seconds"]
    return _headline(name, ours, "s", baseline, beside, verdict, explanation)


def _scrolling(report: Mapping[str, Any]) -> Headline:
    mean, steps = report["scrolling"]["mean"], report["scrolling"]["steps"]
    chance = mean["chance"] / mean["real"]
    verdict = POOR if mean["relative"] <= chance else _grade(mean["relative"], 0.8, 0.5)
    explanation = {
        GOOD: "A held button moves the avatar its way as often as in the real game, or nearly.",
        FAIR: "A held button moves the avatar its way, less often than in the real game.",
        POOR: "A held button seldom moves the avatar its way.",
    }[verdict]
    directions = ", ".join(report["scrolling"]["directions"])
    name = f"Buttons held {steps} steps: {directions}, relative to the real game"
    return _headline(name, mean["relative"], "", chance, "a random button", verdict, explanation)
