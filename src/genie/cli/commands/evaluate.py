"""`genie evaluate`: measure a world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genie.cli.commands import Command
from genie.cli.options import require_device, values_of
from genie.core.config import Device, require

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def _options(parser: ArgumentParser) -> None:
    from dataclasses import fields

    from genie.evaluation.config import EvaluationConfig
    from genie.evaluation.evaluate import evaluate

    parser.add_argument(
        "worlds",
        nargs="+",
        metavar="WORLD",
        help="folder of a world, its id on the Hugging Face Hub, or the name of one that comes "
        "with the package; several are set side by side. The report.json of an earlier evaluation "
        "has its page written again",
    )
    parser.add_argument("--data", help="the clip store to measure on")
    parser.add_argument(
        "--out",
        help="folder of the report; WORLD/evaluation when left out, evaluation/NAME where WORLD is "
        "no folder, `comparison` for several; the protocol genieredux adds -genieredux",
    )
    parser.add_argument("--device", type=Device | None, help="where to run; chosen when left out")
    quick = "a smaller protocol that takes a third of the time"
    parser.add_argument("--quick", action="store_true", help=quick)
    own: set[str | int] = {"world", "store", "out", "sampling", "config", "device", "quick"}
    parser.add_function_arguments(evaluate, skip={*own, "settings"})
    lists: set[str | int] = {"times", "separation", "coherence"}
    parser.add_class_arguments(EvaluationConfig, skip=lists)
    # The protocol, full or quick, decides what is left out.
    numbers = {field.name for field in fields(EvaluationConfig)} - lists
    parser.set_defaults(dict.fromkeys(numbers))


def _write_pages_again(reports: list[str], out: str | None) -> None:
    from genie.evaluation.evaluate import write_page_again

    require(
        not out or len(reports) == 1,
        "--out: names one page; give one report, or leave it out to write each page beside its own",
    )
    for report in reports:
        print(f"{write_page_again(report, out)}: the page, written again")


def _run(options: Namespace) -> None:
    from pathlib import Path

    from genie.cli.headlines import print_headlines
    from genie.evaluation.compare import compare
    from genie.evaluation.evaluate import evaluate
    from genie.evaluation.report.render import markdown

    values = values_of(options)
    worlds, data, out = (values.pop(name) for name in ("worlds", "data", "out"))
    if worlds[0].endswith(".json"):
        _write_pages_again(worlds, out)
        return
    require(data is not None, "--data is missing: the clip store to measure on")
    require_device(values["device"])
    # Another protocol's report does not take the place of the full one.
    kind = "" if values["protocol"] == "genie" else f"-{values['protocol']}"
    if len(worlds) > 1:
        folder = Path(out or f"comparison{kind}")
        print(markdown(compare(worlds, data, folder, **values)))
        print(f"{folder / 'comparison.html'}: the worlds side by side")
        return
    world = Path(worlds[0])
    inside = f"evaluation{kind}"
    beside = world / inside if world.is_dir() else Path(inside) / world.name
    folder = Path(out or beside)
    report = evaluate(worlds[0], data, folder, **values)
    print_headlines(report)
    print(f"{folder / 'report.html'}: the report with pictures")


COMMAND = Command(
    order=3,
    about="measure a world: how good, how controllable",
    example="evaluate runs/coinrun --data data/coinrun",
    options=_options,
    run=_run,
    less_memory="lower --batch",
)
