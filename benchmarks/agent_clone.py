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


def plot(reports: list[dict[str, Any]], path: Path) -> None:
    """Mean return against labels, with intervals, and the references as lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(reports), figsize=(6.4 * len(reports), 4.2), layout="tight", squeeze=False
    )
    for axis, report in zip(axes[0], reports, strict=True):
        for key, name in NAMES.items():
            lines = [line for line in report["curve"] if key in line]
            if not lines:
                continue
            labels, parts = [line["labels"] for line in lines], [line[key] for line in lines]
            style = ":" if "shuffled" in key else "-"
            axis.plot(labels, [p["mean"] for p in parts], style, marker="o", ms=3, label=name)
            low, high = ([p[side] for p in parts] for side in ("low", "high"))
            axis.fill_between(labels, low, high, alpha=0.1)
        for name, part in report["references"].items():
            axis.axhline(part["mean"], color="0.5", linestyle="--", linewidth=0.8)
            axis.annotate(name, (axis.get_xlim()[0], part["mean"]), fontsize=7, va="bottom")
        title = f"{report['world']}, {report['game']['env']}"
        axis.set(xscale="log", title=title, xlabel="labelled steps", ylabel="mean return")
        axis.legend(fontsize=7)
    figure.savefig(path, dpi=100)


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
