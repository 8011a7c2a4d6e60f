"""`genie export`: a world as graphs for other runtimes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genie.cli.commands import Command

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def _options(parser: ArgumentParser) -> None:
    from genie.export.onnx import Weights

    parser.add_argument(
        "world",
        help="folder of a world, its id on the Hugging Face Hub, or the name of one that comes "
        "with the package",
    )
    parser.add_argument(
        "--onnx", required=True, metavar="OUT", help="folder for ONNX graphs and their weights"
    )
    parser.add_argument(
        "--weights",
        type=Weights,
        default="lossless",
        help="float16 halves the file and rounds; lossless takes float16 where nothing is lost",
    )


def _run(options: Namespace) -> None:
    from genie.export.onnx import export_onnx

    print(export_onnx(options.world, options.onnx, options.weights))


COMMAND = Command(
    order=9,
    about="write a world as ONNX graphs, to play it without PyTorch",
    example="",
    options=_options,
    run=_run,
)
