"""A part of a store: what one share of the videos became, until `genie merge` joins the parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genie.core.config import UserError
from genie.core.io import replacing
from genie.data.plan import PreparePlan, plan_from

FILE = "part.json"
FORMAT, VERSION = "genie-store-part", 1


@dataclass(frozen=True)
class StorePart:
    """What `prepare` made of one share of the videos; its frames lie in `frames`.

    Attributes:
        plan: of the whole store, with the share.
        manifests: of each video of the share, by its number in the plan.
        left_out: folders of the source that are no videos, and why.
        kinds: number of videos of the whole source by kind.
    """

    plan: PreparePlan
    manifests: Mapping[int, dict[str, Any]]
    left_out: Mapping[str, str]
    kinds: Mapping[str, int]

    @property
    def clips(self) -> int:
        """Number of clips."""
        return sum(len(manifest["clips"]) for manifest in self.manifests.values())

    @property
    def frames(self) -> int:
        """Number of stored frames."""
        clips = (clip for manifest in self.manifests.values() for clip in manifest["clips"])
        return sum(clip["length"] for clip in clips)


def write_part(out: Path, part: StorePart) -> None:
    """Writes what lies beside the frames of a part. With it the part is whole."""
    with replacing(out / FILE) as path:
        path.write_text(json.dumps({"format": FORMAT, "version": VERSION, **asdict(part)}))


def read_part(folder: Path) -> StorePart:
    """Returns a part.

    Raises:
        UserError: there is none, it is not finished, or it is of another version.
    """
    advice = "make it with: genie prepare VIDEOS --out FOLDER --shard 1/2"
    try:
        values = json.loads((folder / FILE).read_text())
        known = (values["format"], values["version"])
        manifests = {int(number): each for number, each in values["manifests"].items()}
        part = StorePart(plan_from(values["plan"]), manifests, values["left_out"], values["kinds"])
    except FileNotFoundError:
        raise UserError(f"{folder}: is no finished part of a store; {advice}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{folder / FILE}: is damaged; {advice}") from None
    if known != (FORMAT, VERSION):
        raise UserError(f"{folder / FILE}: is of another version of Genie; {advice}")
    return part
