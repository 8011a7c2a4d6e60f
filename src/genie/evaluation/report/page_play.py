"""The parts of the page about play: longer rollouts, separation, Fréchet distances, long games."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genie.evaluation.report.figures import Picture
from genie.evaluation.report.html import line_chart, ranged, section, shown, table, text
from genie.evaluation.report.page import SIDES, delta_chart
from genie.evaluation.report.summary import figure, real_seconds

ENDINGS = {
    "token_statistics": "tokens unlike those of real video",
    "frozen": "picture frozen",
    "avatar_gone": "avatar gone",
}


def parts(report: Mapping[str, Any], pictures: Sequence[Picture]) -> list[str]:
    """Returns the sections in HTML.

    Args:
        report: as in `report.json`.
        pictures: of the report; those whose names begin with `long_play` are shown.
    """
    return [
        _long_rollouts(report["long_rollouts"]),
        _separation(report["separation"]),
        _frechet(report["frechet"], report["rollouts"]),
        _long_play(report["long_play"], pictures),
    ]


def _long_rollouts(part: Mapping[str, Any]) -> str:
    if "skipped" in part:
        return ""
    rows = {
        name: [sides[side]["psnr_mean_error"] for sides in part["at"].values()]
        for side, name in SIDES.items()
    }
    rows["ΔPSNR (dB)"] = [ranged(sides["delta_psnr"]) for sides in part["at"].values()]
    curves = {name: part["curves"][side] for side, name in SIDES.items()}
    label = "PSNR of the mean error (dB)"
    return section(
        f"Playing on for {part['horizon']} steps",
        text(
            f"As above, with {part['clips']} longer clips of {part['episodes']} episode(s).",
            "Far from the prompt no world can know what happened, so look at ΔPSNR and at what",
            "copying gives.",
        ),
        table([f"t = {t}" for t in part["at"]], rows, label),
        line_chart(curves, "t =", "PSNR of each step, mean over clips (dB)"),
        delta_chart(part),
    )


def _separation(part: Mapping[str, Any]) -> str:
    title = "Does each button lead somewhere else?"
    if "skipped" in part:
        return section(title, text(f"Skipped: {part['skipped']}"))
    row = [part["ratio"], part["null_95"], part["p"], part["share_separated"], part["explained"]]
    columns = ["ratio", "chance, 95 % below", "p", "states with p < 0.05", "variance explained"]
    return section(
        title,
        text(
            f"From each of {part['states']} held-out states the next frame was drawn",
            f"{part['repeats']} times for every button, always with new random numbers. The ratio",
            "is the variance between buttons over the variance within one (pseudo-F, Anderson",
            f"2001); chance is {part['permutations']} times dealing the frames of a state out to",
            "the buttons anew. A world that ignores its buttons has a ratio of about 1.",
        ),
        table(columns, {"next frames": row}),
    )


def _frechet(part: Mapping[str, Any], rollouts: Mapping[str, Any]) -> str:
    rows = {name: [part["distance"][side]] for side, name in SIDES.items()}
    rows["between halves of the real frames"] = [part["real_halves"]]
    return section(
        f"Fréchet distances ({part['extractor']})",
        text(
            f"Between {part['samples']} rows of features of real frames and as many of frames of",
            f"rollouts of {rollouts['horizon']} steps, {part['dimensions']} features each, of the",
            "extractor that is named. Distances of different extractors do not compare; FID and",
            "FVD are those of Inception and I3D only.",
        ),
        table(["distance"], rows),
        _perceptual(rollouts),
    )


def _perceptual(part: Mapping[str, Any]) -> str:
    if part["perceptual"] is None:
        return text("Perceptual distance (LPIPS): skipped, no network was given with --lpips.")
    rows = {
        name: [sides[side]["perceptual"] for sides in part["at"].values()]
        for side, name in SIDES.items()
    }
    return text(f"Perceptual distance of the network {part['perceptual']}:") + table(
        [f"t = {t}" for t in part["at"]], rows
    )


def _long_play(part: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    title = "Long play: for how long does it stay a world?"
    if "skipped" in part:
        return section(title, text(f"Skipped: {part['skipped']}"))
    limits, real, avatar = part["limits"], part["real"], part["avatar"]
    gone = f", or the avatar is gone for more than {limits['avatar_gone_frames']} steps"
    return section(
        title,
        text(
            "Games go on from held-out pictures, with actions drawn as they follow each other in",
            "real video. A game is coherent until for a whole window the tokens of",
            f"{part['window']} frames are farther from real video (Jensen-Shannon divergence over",
            f"{figure(limits['distance_99'])} bits) than 99 % of real windows are, or the picture",
            f"stands still for more than {limits['frozen_frames']} steps (real video does for at",
            f"most {real['longest_frozen_frames']})" + ("" if "skipped" in avatar else gone) + ".",
            "Games that last to the end of play count as long as play does, so means say at least",
            f"so long. The limits are from {real['frames']} real frames of {real['episodes']}",
            "episode(s), which are held to them, too; they are over sooner, so their mean is that",
            "of the Kaplan-Meier curve up to the longest of them.",
        ),
        text(_about_avatar(avatar)),
        table(*_play_table(part)),
        *(_charts(play, part) for play in part["plays"]),
        shown(pictures, "long_play"),
    )


def _about_avatar(avatar: Mapping[str, Any]) -> str:
    if "skipped" in avatar:
        return f"Avatar: skipped, {avatar['skipped']}"
    return (
        f"The avatar is found by a detector with a balanced accuracy of "
        f"{figure(avatar['balanced_accuracy'])} on levels that it was not trained on "
        f"({figure(avatar['aside'])} for a place beside the middle)."
    )


def _play_table(part: Mapping[str, Any]) -> tuple[list[str], dict[str, list[Any]]]:
    plays, real = part["plays"], part["real"]
    rows: dict[str, list[Any]] = {
        "games": [play["games"] for play in plays],
        "coherent seconds": [ranged(play["coherent_seconds"]) for play in plays],
        "coherent steps": [ranged(play["coherent_steps"]) for play in plays],
        "real episodes, coherent seconds": [real_seconds(play) for play in plays],
        "share of games coherent to the end": [play["share_to_the_end"] for play in plays],
    }
    for end, name in ENDINGS.items():
        rows[f"ended: {name}"] = [play["ended_by"][end] for play in plays]
    rows["frozen frames, share"] = [ranged(play["frozen_rate"]) for play in plays]
    rows["frozen frames, real video"] = [real["frozen_rate"] for _ in plays]
    if real["visible_rate"] is not None:
        rows["avatar there, share of frames"] = [ranged(play["visible_rate"]) for play in plays]
        rows["avatar there, real video"] = [real["visible_rate"] for _ in plays]
    return [f"{p['steps']} steps ({p['seconds']:.0f} s)" for p in plays], rows


def _charts(play: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    limits, distance, frechet = part["limits"], play["distance"], play["frechet"]
    lines = {f"{play['games']} games": distance["mean"]}
    for name, key in (("median", "median"), ("95 % below", "95"), ("99 % below", "99")):
        limit = limits[f"distance_{key}"]
        lines[f"real windows, {name}"] = [limit] * len(distance["mean"])
    floors = [frechet["real"]] * len(frechet["distance"])
    far = {f"{play['games']} games": frechet["distance"]}
    far[f"{frechet['real_windows']} windows of real video"] = floors
    tokens = f"Distance of the tokens of {part['window']} frames from real video (bits)"
    name = f"Fréchet distance ({part['extractor']}) of {part['window']} frames from real video"
    return line_chart(lines, "t =", tokens, distance["times"]) + line_chart(
        far, "t =", name, frechet["times"]
    )
