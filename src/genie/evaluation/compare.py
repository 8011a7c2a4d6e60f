"""The figures of one or several worlds as a table fit for a paper, and worlds side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genie.core.config import UserError, require
from genie.core.io import replacing
from genie.evaluation.evaluate import evaluate
from genie.evaluation.figures import read_figure
from genie.evaluation.report.render import markdown, paper_rows, render_comparison

if TYPE_CHECKING:
    from genie.data.store import ClipStore

SHOWN = {
    "play.gif": "Held-out clips: real, reconstructed, played with inferred and with random actions",
    "actions_1.png": "Every action held from the same held-out frame",
    "clip_1.png": "A held-out clip",
}


def compare(
    worlds: Sequence[str | Path], store: ClipStore | str | Path, out: str | Path, **settings: Any
) -> dict[str, dict[str, Any]]:
    """Measures several worlds on the same clips and writes them side by side.

    `out` gets a folder with the report of each world, `comparison.md` (a table fit for a paper) and
    `comparison.html` (the table and the pictures of all).

    Args:
        worlds: folders, or ids on the Hugging Face Hub.
        store: the clip store, or its folder; frames of the size of all the worlds.
        out: folder of the reports.
        settings: as for `evaluate`.

    Returns:
        The report of each world by its name.

    Raises:
        UserError: fewer than two worlds, or what `evaluate` raises; a world that was measured
            before has its report then.
    """
    require(len(worlds) >= 2, "worlds: name at least two to compare")
    out, reports = Path(out), dict[str, dict[str, Any]]()
    for name, world in _names(worlds).items():
        try:
            reports[name] = evaluate(world, store, out / name, **settings)
        except UserError as error:
            raise UserError(f"{world}: {error}") from None
    with replacing(out / "comparison.md") as part:
        part.write_text(markdown(reports), "utf-8")
    with replacing(out / "comparison.html") as part:
        part.write_text(_page(reports, out), "utf-8")
    return reports


def _names(worlds: Sequence[str | Path]) -> dict[str, str | Path]:
    """A name for each world: the last part of its path, numbered where two share it."""
    names: dict[str, str | Path] = {}
    for world in worlds:
        name = stem = Path(world).name or "world"
        number = 2
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names[name] = world
    return names


def _page(reports: Mapping[str, Mapping[str, Any]], out: Path) -> str:
    made = {n: {f"{p['name']}.{p['kind']}" for p in r["pictures"]} for n, r in reports.items()}
    figures = {
        caption: {
            name: read_figure(out / name / "pictures" / file, f"{name}: {caption}")
            for name in reports
            if file in made[name]
        }
        for file, caption in SHOWN.items()
        if any(file in files for files in made.values())
    }
    return render_comparison(*paper_rows(reports), figures)
