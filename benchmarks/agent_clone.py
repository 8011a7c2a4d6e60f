"""How many labels does a clone of expert video need? Joins reports of `genie agent clone`.

The commands of the study are in docs/agents.md. This one writes the results of the repository and
the picture of its curve.

python benchmarks/agent_clone.py agents/coinrun-tiny --json results.json --plot clone.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from _machine import as_text

NAMES = {
    "dictionary": "latent actions, dictionary",
    "network": "latent actions, network",
    "head": "latent actions, head",
    "finetuned": "latent actions, fine-tuned",
    "labels alone": "labels alone",
    "shuffled, dictionary": "shuffled, dictionary",
    "shuffled, head": "shuffled, head",
}


FIGURES = {"mean": "mean return", "accuracy": "accuracy on held-out steps"}


def plot(reports: list[dict[str, Any]], path: Path) -> None:
    """Return and accuracy against labels, with intervals where there are any."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(reports), 2, figsize=(11, 4 * len(reports)), layout="tight", squeeze=False
    )
    for row, report in zip(axes, reports, strict=True):
        for axis, (figure_of, title) in zip(row, FIGURES.items(), strict=True):
            _curves(axis, report, figure_of)
            world = f"{report['world']}, {report['game']['env']}"
            axis.set(xscale="log", title=world, xlabel="labelled steps", ylabel=title)
            axis.legend(fontsize=7)
    figure.savefig(path, dpi=90)


def _curves(axis: Any, report: dict[str, Any], key: str) -> None:
    for kind, name in NAMES.items():
        lines = [line for line in report["curve"] if kind in line]
        labels, parts = [line["labels"] for line in lines], [line[kind] for line in lines]
        if not lines:
            continue
        axis.plot(labels, [part[key] for part in parts], "o-", markersize=3, label=name)
        if key == "mean":
            low, high = ([part[side] for part in parts] for side in ("low", "high"))
            axis.fill_between(labels, low, high, alpha=0.1)
    for name, part in report["references"].items():
        if key in part:
            axis.axhline(part[key], color="0.5", linestyle="--", linewidth=0.8)
            place = axis.get_yaxis_transform()
            axis.text(0.99, part[key], name, fontsize=7, ha="right", va="bottom", transform=place)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("agents", type=Path, nargs="+", help="folders that genie agent clone wrote")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    reports = [json.loads((agent / "report.json").read_text("utf-8")) for agent in options.agents]
    if options.json:
        worlds = {report["world"]: report for report in reports}
        options.json.write_text(as_text({"worlds": worlds}), "utf-8")
    if options.plot:
        plot(reports, options.plot)


if __name__ == "__main__":
    main()
