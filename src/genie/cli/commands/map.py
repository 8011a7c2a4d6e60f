"""`genie map`: tie real actions, by their names, to the latent actions of a world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genie.cli.commands import Command
from genie.cli.options import require_device, values_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def _options(parser: ArgumentParser) -> None:
    from genie.agents.mapping import map_actions

    parser.add_argument(
        "world",
        help="folder of a world, its id on the Hugging Face Hub, or the name of one that comes "
        "with the package",
    )
    parser.add_function_arguments(map_actions, skip={"world"})


def _run(options: Namespace) -> None:
    from genie.agents.mapping import map_actions

    require_device(options.device)
    made = map_actions(**values_of(options))
    _print(made.report)
    print(f"{made.folder}: the mapper and report.json")


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    held_out = report["held_out"]
    title = f"{held_out['steps']:,} steps of the {held_out['split']!r} split"
    table = Table("labels", "", "accuracy", "mean recall", title=title)
    for line in report["curve"] or [{"labels": report["labels"], report["kind"]: report["mapper"]}]:
        for label, section in _rows(line):
            cells = (_cell(section[key]) for key in ("accuracy", "balanced_accuracy"))
            table.add_row(f"{line['labels']:,}", label, *cells)
    console = Console(highlight=False)
    console.print(table)
    recall = report["mapper"]["to_real"]["recall"]
    shares = ", ".join(f"{name} {share:.2f}" for name, share in recall.items())
    console.print(f"recall of the saved mapper ({report['kind']}): {shares}", soft_wrap=True)


def _rows(line: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    rows = []
    for kind in ("dictionary", "network"):
        if kind in line:
            rows.append((f"{kind}, latent to real", line[kind]["to_real"]))
            rows.append((f"{kind}, real to latent", line[kind]["to_latent"]))
    names = {
        "commonest": "the commonest action",
        "frame_alone": "the frame alone",
        "supervised": "supervised, sees both frames",
    }
    return rows + [(name, line[key]) for key, name in names.items() if key in line]


def _cell(value: Any) -> str:
    if not isinstance(value, dict):
        return f"{value:.3f}"
    if "low" not in value:
        return f"{value['mean']:.3f}"
    return f"{value['mean']:.3f} ± {value['high'] - value['mean']:.3f}"


COMMAND = Command(
    order=8,
    about="tie real actions, by name, to the latent actions of a world",
    example="",
    options=_options,
    run=_run,
)
