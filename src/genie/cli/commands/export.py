"""`genie export`: a world as graphs for other runtimes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genie.cli.commands import Command

if TYPE_CHECKING:
    from pathlib import Path

    from jsonargparse import ArgumentParser, Namespace


def _options(parser: ArgumentParser) -> None:
    from genie.export.onnx import Weights

    parser.add_argument(
        "worlds",
        nargs="+",
        metavar="WORLD",
        help="folder of a world, its id on the Hugging Face Hub, or the name of one that comes "
        "with the package; a site takes several",
    )
    parser.add_argument("--onnx", metavar="OUT", help="folder for ONNX graphs and their weights")
    parser.add_argument(
        "--web", metavar="SITE", help="folder for a site that plays the worlds in the browser's tab"
    )
    parser.add_argument(
        "--weights",
        type=Weights,
        default="lossless",
        help="float16 halves the file and rounds; lossless takes float16 where nothing is lost",
    )
    parser.add_argument(
        "--runtime",
        metavar="FOLDER",
        help="folder with the files of the npm packages that a site needs, where npm is missing",
    )


def _run(options: Namespace) -> None:
    from genie.core.config import require
    from genie.export.onnx import export_onnx, name_of
    from genie.export.site import export_site

    require(bool(options.onnx) != bool(options.web), "give --onnx OUT or --web SITE, one of them")
    fits = bool(options.web) or len(options.worlds) == 1
    require(fits, "--onnx: takes one world; --web takes several")
    print(f"exporting {', '.join(map(name_of, options.worlds))}, a minute or more", flush=True)
    if options.web:
        site = export_site(options.worlds, options.web, options.weights, options.runtime)
        print(f"{site}: a site of {', '.join(map(name_of, options.worlds))}, {_megabytes(site)}")
        print(f"play it: python -m http.server --bind 127.0.0.1 --directory {options.web}")
        print("publish it: any host of static files serves it (docs/export.md)")
        return
    out = export_onnx(options.worlds[0], options.onnx, options.weights)
    print(f"{out}: graphs, weights and world.json, which describes them, {_megabytes(out)}")
    print("play it: examples/play_onnx.py does so in NumPy (docs/export.md)")


def _megabytes(folder: Path) -> str:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{size / 1e6:.1f} MB"


COMMAND = Command(
    order=11,
    about="write a world as ONNX graphs or as a site, to play it without PyTorch",
    example="",
    options=_options,
    run=_run,
)
