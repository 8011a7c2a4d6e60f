"""Lists the licences of all that the package needs to run, as JSON: python campaign/licences.py.

Dependencies are followed from the package's own, with its extras `train`, `serve` and `export`, as
they are installed here.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGE, EXTRAS = "genie-worlds", ("train", "serve", "export")
RESULT = Path(__file__).parent.parent / "benchmarks" / "results" / "licences.json"


def needed(name: str, extras: tuple[str, ...] = ()) -> dict[str, Distribution]:
    """Returns a distribution and all that it needs, by name; what is not installed is left out."""
    found: dict[str, Distribution] = {}
    waiting = [(name, extras)]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            found[canonicalize_name(name)] = there = distribution(name)
        except PackageNotFoundError:
            continue
        for text in there.requires or ():
            wanted = Requirement(text)
            chosen = any(
                wanted.marker is None or wanted.marker.evaluate({"extra": extra})
                for extra in ("", *extras)
            )
            if chosen:
                waiting.append((wanted.name, tuple(sorted(wanted.extras))))
    return found


def licence(there: Distribution) -> str:
    """Returns the licence as the metadata states it: expression, classifier, or first line."""
    about = there.metadata
    if expression := about.get("License-Expression"):
        return expression
    marks = [
        m.split(" :: ")[-1] for m in about.get_all("Classifier", []) if m.startswith("License")
    ]
    stated = (about.get("License") or "").strip().splitlines()
    short = stated[0] if stated and len(stated[0]) < 60 else ""
    return " and ".join(marks) if marks and marks != ["OSI Approved"] else short or "not stated"


def family(text: str) -> str:
    """Returns the kind of a licence, for the table."""
    for kind in ("MIT", "Apache", "BSD", "PSF", "Python", "ISC", "MPL", "Mozilla", "LGPL", "GPL"):
        if re.search(kind, text, re.IGNORECASE):
            return {"Python": "PSF", "Mozilla": "MPL"}.get(kind, kind)
    return text


def main() -> None:
    """Writes the list, and prints how many there are of each kind."""
    found = needed(PACKAGE, EXTRAS)
    found.pop(PACKAGE, None)
    rows = {
        name: {"version": there.version, "licence": licence(there)}
        for name, there in sorted(found.items())
    }
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    for kind, count in Counter(family(row["licence"]) for row in rows.values()).most_common():
        print(f"{kind}: {count}")


if __name__ == "__main__":
    main()
