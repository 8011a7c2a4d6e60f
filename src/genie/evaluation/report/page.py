"""The report as one HTML page that needs nothing else: no script, no request, light and dark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from genie.evaluation.report.figures import Picture
from genie.evaluation.report.html import document, heat_table, line_chart, ranged, table
from genie.evaluation.report.html import section as _section
from genie.evaluation.report.html import shown as _shown
from genie.evaluation.report.html import text as _text
from genie.evaluation.report.summary import figure, quoted_time

SIDES = {
    "inferred": "inferred actions",
    "random": "random actions",
    "copy_last_frame": "copying the last frame",
    "random_codes": "random codes",
    "reconstruction": "reconstruction (the best possible)",
}
MEASURES = {
    "psnr": "PSNR, mean over frames (dB)",
    "psnr_mean_error": "PSNR of the mean error (dB)",
    "psnr_moving": "PSNR on moving pixels (dB)",
    "ssim": "SSIM",
}


def render(report: Mapping[str, Any], pictures: Sequence[Picture], more: Sequence[str] = ()) -> str:
    """Returns the page.

    Args:
        report: as in `report.json`.
        pictures: shown inline; those whose names begin with `buttons` and `clip` under their
            headings, `play` on top.
        more: sections to show after the rollouts, in HTML.
    """
    parts = [_head(report), _cards(report), _shown(pictures, "play")]
    parts += [_buttons(report), _shown(pictures, "buttons")]
    parts += [_rollouts(report), _shown(pictures, "clip"), *more]
    parts += [_tokenizer(report), _actions(report), _dynamics(report), _labels(report)]
    parts += [_following(report), _closed_loop(report), _movement(report)]
    parts += [_settings(report)]
    return document(_title(report), parts)


def _title(report: Mapping[str, Any]) -> str:
    return f"World report: {report['world']['name']}"


def _head(report: Mapping[str, Any]) -> str:
    world, data = report["world"], report["data"]
    line = (
        f"{world['width']}x{world['height']} pixels, {world['num_actions']} buttons, "
        f"{world['parameters']['total'] / 1e6:.1f}M parameters, measured on {report['clips']} "
        f"clips of the {data['split']!r} split of {data['name']} on {report['date'][:10]}."
    )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in report["notes"])
    return f'<h1>{escape(_title(report))}</h1><p class="soft">{escape(line)}</p>{notes}'


def _cards(report: Mapping[str, Any]) -> str:
    return f'<h2>In short</h2><div class="cards">{"".join(map(_card, report["headlines"]))}</div>'


def _card(line: Mapping[str, Any]) -> str:
    value, baseline = (figure(line[key], line["unit"]) for key in ("value", "baseline"))
    return (
        f'<div class="card {line["verdict"]}"><h3>{escape(line["name"])}</h3>'
        f'<div class="value">{escape(value)}</div>'
        f'<div class="soft">{escape(line["baseline_name"])}: {escape(baseline)}</div>'
        f'<p><span class="verdict">{line["verdict"].capitalize()}.</span> '
        f"{escape(line['words'])}</p></div>"
    )


def _buttons(report: Mapping[str, Any]) -> str:
    part = report["buttons"]
    actions = [str(a) for a in range(len(part["distances"]))]
    change = {"change from the prompt (grey levels)": part["change_from_prompt"]}
    distances = {f"action {a}": row for a, row in zip(actions, part["distances"], strict=True)}
    return _section(
        "What each button does",
        _text(
            f"From {part['prompts']} held-out pictures every button was held for {part['steps']}",
            "frames, twice, with other random numbers. Pictures of different buttons differ by",
            f"{figure(part['between_actions'])} grey levels of 255, pictures of the same button by",
            f"{figure(part['between_seeds'])}: a ratio of {figure(part['ratio'])}.",
            "A world that ignores its buttons has 1.",
        ),
        table(actions, change, "action"),
        _text("Distance between each two buttons, where 1 is what chance alone makes:"),
        table(actions, distances),
    )


def _rollouts(report: Mapping[str, Any]) -> str:
    part = report["rollouts"]
    times = list(part["at"])
    columns = [f"t = {t}" for t in times]
    deltas = {
        label: [ranged(part["at"][t][key]) for t in times]
        for label, key in (("ΔPSNR (dB)", "delta_psnr"), ("on moving pixels", "delta_psnr_moving"))
    }
    sides = [
        table(columns, {n: [part["at"][t][s][key] for t in times] for s, n in SIDES.items()}, label)
        for key, label in MEASURES.items()
    ]
    curves = {name: part["curves"][side] for side, name in SIDES.items()}
    return _section(
        "Playing real clips again",
        _text(
            f"The world gets the first {part['prompt_frames']} frame(s) of {part['clips']} clips",
            f"of {part['episodes']} episode(s), chosen under {len(part['seeds'])} seed(s),",
            "and plays on, once with the actions inferred from what really happened and once",
            "with random ones, both with the same random numbers. ΔPSNR is the difference of the",
            f"two: how much the right buttons matter. It is quoted at t = {quoted_time(report)}.",
        ),
        table(columns, deltas, "mean, 95 % interval"),
        *sides,
        _text(
            "Intervals are of 95 %: mean ± t(0.975, E - 1) s / √E over the means of E episodes,",
            "each over all its clips of all seeds; those of the other figures, in report.json, are",
            "percentiles of a bootstrap over episodes.",
        ),
        line_chart(curves, "t =", "PSNR of each step, mean over clips (dB)"),
        delta_chart(part),
    )


def delta_chart(part: Mapping[str, Any]) -> str:
    """Returns ΔPSNR over the steps of rollouts, marked where it is usually quoted."""
    lines = {
        "ΔPSNR": part["delta_psnr_curve"],
        "95 %, low": part["delta_psnr_low"],
        "95 %, high": part["delta_psnr_high"],
    }
    marked = min(4, len(part["delta_psnr_curve"]))
    return line_chart(lines, "t =", f"ΔPSNR of each step (dB), {part['clips']} clips", None, marked)


def _sides(part: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> str:
    rows = {label: [part[side][key] for side in names] for key, label in MEASURES.items()}
    return table(list(names.values()), rows)


def _tokenizer(report: Mapping[str, Any]) -> str:
    part = report["tokenizer"]
    book = part["codebook"]
    names = {"reconstruction": "reconstruction", "copy_last_frame": "copying the last frame"}
    return _section(
        "Tokenizer: frames to tokens and back",
        _text(
            f"{100 * part['moving_share']:.1f} % of the pixels move from one frame to the next;",
            "the mean over frames is ruled by those that stand still, so look at the other rows",
            "too.",
        ),
        _sides(part, names),
        _intervals(part),
        _text(
            f"{book['used']} of {book['size']} codes occur in {book['tokens']} tokens",
            f"({100 * book['share_used']:.0f} %), perplexity {figure(book['perplexity'])}.",
        ),
    )


def _intervals(part: Mapping[str, Any]) -> str:
    rows = {label: part["intervals"][key] for key, label in MEASURES.items()}
    return table(["low", "high"], rows, "95 % intervals over episodes")


def _actions(report: Mapping[str, Any]) -> str:
    part = report["latent_actions"]
    names = {
        "inferred": "with the inferred action",
        "random": "with a random action",
        "copy_last_frame": "copying the last frame",
    }
    return _section(
        "Latent actions",
        _text(
            f"Perplexity {figure(part['perplexity'])} of {part['count']} over",
            f"{part['transitions']} transitions. Share of them that each action explains:",
        ),
        heat_table([str(a) for a in range(part["count"])], {"share": part["usage"]}, "action"),
        _text(
            "The next frame as the latent action model predicts it from real past frames, at the",
            f"{part['pixels'][0]}x{part['pixels'][1]} pixels that it sees:",
        ),
        _sides(part["next_frame"], names),
    )


def _dynamics(report: Mapping[str, Any]) -> str:
    part = report["dynamics"]
    rows = {
        f"with {name} actions": [part[name]["cross_entropy"], part[name]["accuracy"]]
        for name in ("inferred", "shuffled")
    }
    rows["guessing uniformly"] = [part["uniform_cross_entropy"], None]
    rows["copying the last frame's token"] = [None, part["copy_last_frame_accuracy"]]
    return _section(
        "Dynamics: masked tokens",
        _text(
            "Shuffled actions are the inferred ones in another order; if they do as well, the",
            "dynamics ignore the buttons.",
        ),
        table(["cross-entropy (nats)", "accuracy"], rows),
    )


def _labels(report: Mapping[str, Any]) -> str:
    part, title = report["labels"], "Latent against true actions"
    if "skipped" in part:
        return _section(title, _text(f"Skipped: {part['skipped']}"))
    chance, normalised = part["chance"], "normalised_mutual_information"
    rows = {
        "mutual information (nats)": [part["mutual_information"], chance["mutual_information"]],
        "normalised (0 to 1)": [part[normalised], chance[normalised]],
        "purity": [part["purity"], chance["purity"]],
    }
    return _section(
        title,
        _text(
            f"{part['transitions']} transitions whose true action is known; training never saw it.",
            f"True actions have an entropy of {figure(part['true_entropy'])} nats; always guessing",
            f"the commonest is right {100 * part['commonest_true_action']:.0f} % of the time.",
        ),
        table(["figure", f"chance ({chance['permutations']} shuffles)"], rows),
        counts_table(part),
        _maps(part.get("maps", [])),
        _agreement(part),
    )


def counts_table(part: Mapping[str, Any]) -> str:
    """Returns how often latent and true actions fell together, as HTML.

    True actions that never occur, of which a game with many keys has some, have no column.
    """
    pressed = [a for a, column in enumerate(zip(*part["table"], strict=True)) if any(column)]
    counts = {f"latent {i}": [row[a] for a in pressed] for i, row in enumerate(part["table"])}
    return heat_table([part["true_actions"][a] for a in pressed], counts, "count of transitions")


def _agreement(part: Mapping[str, Any]) -> str:
    if "agreement" not in part:
        return ""
    network = part["inverse_dynamics"]
    tables = [_sides_of(name, kind) for name, kind in part["agreement"].items()]
    return "".join(
        [
            _text(
                "How much could be told at all? A network that was trained with the true actions",
                f"of training episodes ({network['parameters']:,} weights; the latent action",
                f"model's encoder has {network['encoder_parameters']:,}) reads them off three",
                "frames: the ceiling. The past is the same network without the frame that the",
                "action led to: what could be told beforehand, because players hold buttons.",
                "k-means groups coarse frame differences into as many codes as there are latent",
                "actions.",
            ),
            _text(
                "True actions that it tells apart with a pairwise accuracy below",
                f"{figure(network['merged_below'])} (0.5 is guessing) count as one:",
                f"{_merges(network)}.",
            ),
            *tables,
        ]
    )


def _merges(network: Mapping[str, Any]) -> str:
    found = [
        f"{' and '.join('/'.join(group) for group in merge['actions'])} "
        f"({figure(merge['told_apart'])})"
        for merge in network["merges"]
    ]
    return ", then ".join(found) or "there are none"


def _sides_of(name: str, part: Mapping[str, Any]) -> str:
    sides = part["sides"]
    rows: dict[str, list[Any]] = {
        "mutual information (nats)": [side["mutual_information"] for side in sides.values()],
        "normalised (0 to 1)": [side["normalised_mutual_information"] for side in sides.values()],
        "purity": [side["purity"] for side in sides.values()],
    }
    for line in zip(*(side["maps"] for side in sides.values()), strict=True):
        rows[f"right with {line[0]['labels']} labels"] = [cell["accuracy"] for cell in line]
    columns = ["latent actions", "random codes", "k-means", "the past", "ceiling"]
    return _text(
        f"{name.capitalize()} true actions: entropy {figure(part['true_entropy'])} nats, the",
        f"commonest {100 * part['commonest']:.0f} %. Latent actions reach",
        f"{figure(part['share_of_ceiling'])} of the ceiling's mutual information. The network",
        f"itself is right in {100 * sides['ceiling']['accuracy']:.0f} % of the steps and, with",
        f"its doubts counted, knows {figure(sides['ceiling']['information'])} nats, of which",
        f"{figure(sides['past']['information'])} could be told from the past.",
    ) + table(columns, rows)


def _following(report: Mapping[str, Any]) -> str:
    part, title = report["action_following"], "Action following"
    if "skipped" in part:
        return _section(title, _text(f"Skipped: {part['skipped']}"))
    names = {
        "real": "real video (the ceiling)",
        "reconstruction": "real video through the tokenizer",
        "inferred": "played with inferred actions",
        "random": "played with random actions (chance)",
        "majority": "always the commonest",
    }
    rows = {name: [part[s]["macro_f1"], part[s]["accuracy"]] for s, name in names.items()}
    confusion = dict(zip(part["actions"], part["inferred"]["confusion"], strict=True))
    return _section(
        title,
        _text(
            f"{part['clips']} held-out clips are played again with the actions inferred from them,",
            "and the network reads the true action back from what was drawn:",
        ),
        table(["macro F1", "accuracy"], rows),
        _text("What was read (columns) where the true action was (rows), inferred actions:"),
        heat_table(part["actions"], confusion, "true action"),
    )


def _closed_loop(report: Mapping[str, Any]) -> str:
    part, title = report["closed_loop"], "Held buttons go their way"
    if "skipped" in part:
        return _section(title, _text(f"Skipped: {part['skipped']}"))
    keys = ("button", "share", "chance", "real", "real_games", "relative", "relative_chance")
    rows = {name: [line[key] for key in keys] for name, line in part["actions"].items()}
    rows["mean"] = [part["mean"].get(key) for key in keys]
    ours, real = part["steps"], part["real_steps"]
    return _section(
        title,
        _text(
            "For each true action the button was chosen on training levels, then held from",
            f"{part['games']} held-out pictures for {ours} steps. A game goes the right way when",
            "the network reads the action more often than any other. Real video is judged by the",
            f"same measure where its player held the action for {real} steps; relative is our",
            "share of games over the real one, both over as many steps.",
        ),
        table(
            [
                "button",
                "right way",
                "random button",
                f"real video, {real} steps",
                "stretches",
                "relative",
                "random button, relative",
            ],
            rows,
            "true action",
        ),
    )


def _movement(report: Mapping[str, Any]) -> str:
    part, title = report["movement"], "Held buttons move the avatar their way"
    if "skipped" in part:
        return _section(title, _text(f"Skipped: {part['skipped']}"))
    keys = ("button", "share", "chance", "real", "real_games", "relative")
    rows = {way: [line[key] for key in keys] for way, line in part["ways"].items()}
    rows["mean"] = [part["mean"].get(key) for key in keys]
    return _section(
        title,
        _text(
            "The same without a network, where the camera follows the avatar: a game goes a way",
            f"when the scene scrolls by {figure(part['pixels'])} pixels in {part['steps']} steps,",
            f"found by block matching; from {part['games']} held-out pictures.",
        ),
        table(
            ["button", "right way", "random button", "real video", "stretches", "relative"],
            rows,
            "way",
        ),
    )


def _maps(maps: Sequence[Mapping[str, Any]]) -> str:
    if not maps:
        return ""
    rows = {
        "right, buttons named by the labels": [line["accuracy"] for line in maps],
        "standard deviation over draws": [line["std"] for line in maps],
        "always the commonest of the labels": [line["commonest"] for line in maps],
    }
    return _text(
        "If the true action of a few training steps is known, and every latent action is called",
        "what it most often was, this share of held-out steps has the right name:",
    ) + table([f"{line['labels']} labels" for line in maps], rows)


def _settings(report: Mapping[str, Any]) -> str:
    keys = ("settings", "seconds", "machine", "versions", "data", "world")
    text = json.dumps({key: report[key] for key in keys}, indent=1, ensure_ascii=False)
    summary = "<summary>Settings, machine, versions, configuration</summary>"
    return _section(
        "How this was measured",
        f"<details>{summary}<pre>{escape(text)}</pre></details>",
        _text(
            f"{report['date']}, {report['seconds']['total']:.0f} s. All figures are in report.json."
        ),
    )
