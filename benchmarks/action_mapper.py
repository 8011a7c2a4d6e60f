"""How many labelled steps tie real actions to latent ones, and does a world follow their names?

For each number of labels: the dictionary, the network that sees the frame, and networks without
latent actions from as many labels. Then real actions are held by name in the world.

python benchmarks/action_mapper.py coinrun-tiny coinrun-9m --data data/coinrun --plot mapper.png
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _machine import as_text

from genie.agents.labelled_steps import read_steps
from genie.agents.mapper import FitConfig, Information, fit_mapper
from genie.agents.mapper_report import COUNTS, measure_labels
from genie.agents.named_play import compare_by_name
from genie.core.progress import progress_bars
from genie.data.store import ClipStore
from genie.evaluation.config import EvaluationConfig
from genie.evaluation.metrics.context import Evaluation
from genie.evaluation.metrics.metric import find_metrics
from genie.world.genie import Genie

BASELINES = ("commonest", "frame_alone", "supervised")


def curve(
    world: str,
    store: ClipStore,
    options: argparse.Namespace,
    known: list[dict[str, Any]],
    save: Callable[[dict], None],
) -> None:
    """Measures and saves figures for each number of labels; those of other numbers are kept."""
    genie = Genie.from_pretrained(world, "cpu")
    pool = read_steps(genie, store, "train", options.repeats * max(options.labels))
    held_out = read_steps(genie, store, "val", options.held_out)
    lines = {line["labels"]: line for line in known}
    for labels in options.labels:
        began = time.process_time()
        repeats = options.repeats
        line = measure_labels(pool, held_out, labels, repeats, baselines=options.baselines)
        lines[labels] = line | {"seconds": round(time.process_time() - began, 1)}
        save({"curve": [lines[n] for n in sorted(lines)]})
    save({"information": vars(Information.of(held_out))})
    if options.class_weights:
        weighted = {
            str(power): measure_labels(
                pool, held_out, 1000, options.repeats, kinds=("network",), baselines=False,
                config=FitConfig(class_weights=power),
            )
            for power in options.class_weights
        }  # fmt: skip
        save({"class_weights": weighted})


def by_name(world: str, store: ClipStore, options: argparse.Namespace) -> dict[str, Any]:
    """Games that scroll the way of an action held by name, beside a single latent action."""
    genie = Genie.from_pretrained(world, "cpu")
    steps = read_steps(genie, store, "train", options.named_labels)
    mappers = {kind: fit_mapper(steps, kind) for kind in ("dictionary", "network")}
    config = EvaluationConfig(closed_loop_games=options.games, batch=32)
    metrics = {key: m for key, m in find_metrics().items() if key == "scrolling"}
    with torch.no_grad():
        evaluation = Evaluation(genie, store, config, bars=progress_bars(True), metrics=metrics)
        return compare_by_name(evaluation, mappers)


def plot(results: dict[str, Any], path: Path) -> None:
    """Accuracy and mean recall against labels, with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    worlds = results["worlds"]
    figure, axes = pyplot.subplots(
        len(worlds), 3, figsize=(12, 3.4 * len(worlds)), layout="tight", squeeze=False
    )
    baselines = next(part["curve"] for part in worlds.values() if "supervised" in part["curve"][0])
    columns = (
        ("to_real", "accuracy", "latent to real: accuracy"),
        ("to_real", "balanced_accuracy", "latent to real: mean recall"),
        ("to_latent", "accuracy", "real to latent: accuracy"),
    )
    for row, (world, part) in zip(axes, worlds.items(), strict=True):
        for axis, (side, key, title) in zip(row, columns, strict=True):
            for kind in ("dictionary", "network"):
                _line(axis, part["curve"], lambda line, k=kind, s=side: line[k][s], key, kind)
            for name in BASELINES if side == "to_real" else ():
                _line(axis, baselines, lambda line, n=name: line[n], key, name.replace("_", " "))
            axis.set(xscale="log", title=f"{world}, {title}", xlabel="labelled steps")
            axis.legend(fontsize=7)
    figure.savefig(path, dpi=100)


def _line(axis: Any, lines: list[dict[str, Any]], of: Any, key: str, label: str) -> None:
    values = [of(line)[key] for line in lines]
    labels, means = [line["labels"] for line in lines], [value["mean"] for value in values]
    axis.plot(labels, means, "o-", markersize=3, label=label)
    if "low" in values[0]:
        axis.fill_between(
            labels, [v["low"] for v in values], [v["high"] for v in values], alpha=0.15
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("worlds", nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--labels", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--held_out", type=int, default=4096)
    parser.add_argument("--baselines", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--class_weights", type=float, nargs="*", default=())
    parser.add_argument("--named_labels", type=int, default=1000)
    parser.add_argument("--games", type=int, default=64, help="0 leaves out play by names")
    parser.add_argument("--no_curve", action="store_true", help="play by names only")
    parser.add_argument("--json", type=Path, help="results; those that are there are kept")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    store, results = ClipStore.open(options.data), dict[str, Any]()
    if options.json and options.json.is_file():
        results = json.loads(options.json.read_text("utf-8"))
    settings = ("repeats", "held_out", "named_labels", "games")
    results["settings"] = {name: getattr(options, name) for name in settings}
    worlds = results.setdefault("worlds", {})
    for world in options.worlds:

        def save(found: dict[str, Any], world: str = world) -> None:
            worlds.setdefault(world, {}).update(found)
            if options.json:
                options.json.write_text(as_text(results), "utf-8")

        if not options.no_curve:
            curve(world, store, options, worlds.get(world, {}).get("curve", []), save)
        if options.games:
            save(by_name(world, store, options))
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
