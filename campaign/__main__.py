"""`make campaign`: runs the attacks whose trials are missing, and writes what came of them.

python -m campaign [--only NAME ...] [--trials N] [--seed S] [--again] [--write]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
if __name__ == "__main__":
    from campaign import faults

    parser = argparse.ArgumentParser(
        prog="campaign", description="Attacks the program, and counts."
    )
    parser.add_argument("--run", type=Path, default=ROOT / "build" / "campaign", help="its folder")
    parser.add_argument("--only", nargs="+", default=[], help="names of attacks")
    parser.add_argument("--trials", type=int, help="of each attack, in place of its own number")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="run again what fell")
    parser.add_argument("--write", type=Path, help="JSON file for the figures of the page")
    options = parser.parse_args()
    faults.run_under(options.run, ["-m", "campaign", *sys.argv[1:]])

from campaign.attacks import find_attacks  # noqa: E402
from campaign.harness import Attack, Campaign  # noqa: E402


def figures(campaign: Campaign, attack: Attack) -> dict[str, Any]:
    """Returns what the page says of an attack."""
    lines = campaign.of(attack)
    most: dict[str, float] = {}
    for line in lines:
        for name, value in line["figures"].items():
            most[name] = max(most.get(name, value), value)
    return {
        "name": attack.name,
        "about": attack.about,
        "bar": attack.bar,
        "planned": attack.trials,
        "trials": len(lines),
        "held": sum(line["held"] for line in lines),
        "seconds": round(sum(line["seconds"] for line in lines), 1),
        "peak_mb": max((line.get("peak_mb", 0) for line in lines), default=0),
        "most": most,
        "outcomes": dict(Counter(line["what"] for line in lines if line["held"]).most_common(40)),
        "fell": dict(Counter(line["what"] for line in lines if not line["held"]).most_common(20)),
    }


def write(campaign: Campaign, attacks: list[Attack], path: Path) -> None:
    """Writes the figures of all attacks that were run; those of others stay."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from _machine import about

    known = json.loads(path.read_text())["attacks"] if path.exists() else []
    found = {row["name"]: row for row in known}
    here = {"machine": about()}
    found |= {a.name: figures(campaign, a) | here for a in attacks if campaign.of(a)}
    rows = [found[attack.name] for attack in attacks if attack.name in found]
    result = {"seed": campaign.seed, "attacks": rows}
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def main() -> int:
    """Runs what is missing; returns the number of trials that fell, at most 100."""
    campaign = Campaign(options.run, options.seed)
    attacks = find_attacks()
    names = [attack.name for attack in attacks]
    if unknown := set(options.only) - set(names):
        parser.error(f"no such attack: {', '.join(unknown)}; there are {', '.join(names)}")
    chosen = [attack for attack in attacks if not options.only or attack.name in options.only]
    for attack in chosen:
        trials = attack.trials if options.trials is None else options.trials
        for line in campaign.run(attack, trials, options.again):
            word = "held" if line["held"] else "FELL"
            where = f"{line['attack']} {line['trial']}"
            print(f"{where}: {word}, {line['what']} ({line['seconds']} s)", flush=True)
        row = figures(campaign, attack)
        print(f"{attack.name}: {row['held']} of {row['trials']} held", flush=True)
    if options.write:
        write(campaign, attacks, options.write)
    return min(100, sum(not line["held"] for a in chosen for line in campaign.of(a)))


if __name__ == "__main__":
    sys.exit(main())
