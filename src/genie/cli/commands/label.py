"""`genie label`: label clips on a page, and learn a quality filter from the labels."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from genie.cli.commands import Command
from genie.core.config import require

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from genie.data.store import ClipStore

LABELS = "labels.json"


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("store", help="clip store, prepared from a fair sample of the videos")
    parser.add_argument(
        "--labels",
        help='JSON file of labels to learn from, such as {"a.mp4#1": "good", "b.mp4": "bad"}; '
        "a page to label clips on is opened when left out",
    )
    parser.add_argument(
        "--out", default="quality.json", help="file of the quality filter for genie prepare"
    )
    parser.add_argument(
        "--save",
        type=str | None,
        help=f"file that the page saves labels to, at once; {LABELS} when left out. Labels that "
        "it has stay",
    )
    parser.add_argument("--seed", type=int, default=0, help="determines the order of the clips")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address of the page; one that is not loopback, for a phone, wants a token in "
        "$GENIE_TOKEN",
    )
    parser.add_argument(
        "--hosts",
        type=list[str],
        default=[],
        help="names or addresses that the phone calls this machine by, for --host 0.0.0.0",
    )
    parser.add_argument("--port", type=int, default=8000, help="TCP port; 0 takes any free one")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--progress", type=bool, default=True, help="show a progress bar")


def _run(options: Namespace) -> None:
    from genie.data.store import ClipStore

    require(
        options.labels is None or options.save is None,
        "labels: give --labels to learn from labels, or --save to label clips on the page",
    )
    store = ClipStore.open(options.store)
    if options.labels is not None:
        _learn(store, options.labels, options)
    elif _label(store, options.save or LABELS, options):
        _learn(store, options.save or LABELS, options)


def _label(store: ClipStore, path: str, options: Namespace) -> bool:
    """Lets a person label clips; returns whether they finished."""
    from genie.data.labelling import Labelling
    from genie.serving import serve
    from genie.serving.http.auth import is_loopback

    finished = list[bool]()

    def finish() -> None:
        finished.append(True)
        signal.raise_signal(signal.SIGINT)  # the server answers, then it stops

    labelling = Labelling(store, path, options.seed, on_finished=finish)
    serve(
        host=options.host,
        port=options.port,
        hosts=options.hosts,
        token=None if is_loopback(options.host) else os.environ.get("GENIE_TOKEN") or None,
        open_browser=options.open,
        extend=labelling.add_to,
        page="label.html",
    )
    if not finished:
        counts = labelling.counts()
        print(
            f"{path}: {counts['good']:,} good and {counts['bad']:,} bad clips; the same command "
            "goes on"
        )
        print(f"learn the filter with: genie label {options.store} --labels {path}")
    return bool(finished)


def _learn(store: ClipStore, labels: str, options: Namespace) -> None:
    from genie.data.quality import save_quality
    from genie.data.quality_labels import learn_quality, read_labels

    learned = learn_quality(store, read_labels(labels), progress=options.progress)
    save_quality(learned.model, options.out)
    print(
        f"{options.out}: from {learned.model.good:,} good and {learned.model.bad:,} bad clips; "
        f"in {learned.ranking:.1%} of held-out pairs the good clip scores higher"
    )
    if learned.ranking < 0.6:
        print("That is hardly better than chance (50%): label more clips before you use it.")
    print(f"next: genie prepare VIDEOS --out STORE --quality {options.out} --keep_best 0.1")


COMMAND = Command(
    order=25,
    about="label a few hundred clips on a page, and learn which are worth training on",
    example="",
    options=_options,
    run=_run,
)
