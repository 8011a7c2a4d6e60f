"""`genie label`: learn a quality filter from labels of clips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genie.cli.commands import Command

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("store", help="clip store, prepared from a fair sample of the videos")
    parser.add_argument(
        "--labels",
        required=True,
        help='JSON file of labels, such as {"a.mp4#1": "good", "b.mp4": "bad"}',
    )
    parser.add_argument(
        "--out", default="quality.json", help="file of the quality filter for genie prepare"
    )
    parser.add_argument("--progress", type=bool, default=True, help="show a progress bar")


def _run(options: Namespace) -> None:
    from genie.data.quality import save_quality
    from genie.data.quality_labels import learn_quality, read_labels
    from genie.data.store import ClipStore

    store = ClipStore.open(options.store)
    learned = learn_quality(store, read_labels(options.labels), progress=options.progress)
    save_quality(learned.model, options.out)
    print(
        f"{options.out}: from {learned.model.good:,} good and {learned.model.bad:,} bad clips; "
        f"in {learned.ranking:.1%} of held-out pairs the good clip scores higher"
    )
    print(f"next: genie prepare VIDEOS --out STORE --quality {options.out} --keep_best 0.1")


COMMAND = Command(
    order=25,
    about="learn which clips are worth training on from labels of a few hundred",
    example="",
    options=_options,
    run=_run,
)
