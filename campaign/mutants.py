"""Mutation testing: one place of a file is changed, and the tests of the file are to notice it.

python -m campaign.mutants [--only FILE ...] [--minutes N] [--most N] [--again] [--write PATH]

Cosmic Ray makes the mutants (`pip install cosmic-ray`). They are never written to a file: a forked
process reads the changed text in place of the file, and runs the tests. Results lie in
`build/mutants/results.jsonl`; what was run is not run again.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import json
import os
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import SourceFileLoader
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from campaign.harness import RESULTS, ended, fork, in_a_child

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "genie"
READ = Path(__file__).with_name("survivors.json")
"""What was found by reading survivors: for each file, changes and the kind of each."""

FILES: dict[str, str] = {
    "core/io.py": "",
    "training/checkpointing.py": "",
    "data/store.py": "",
    "world/maskgit.py": "",
    "world/replay.py": "not dtype and not command_writes",
    "world/handover.py": "",
    "serving/http/auth.py": "",
    "serving/play/scheduler.py": "not delay and not quarter and not fraction and not frame_rate",
    "serving/play/session.py": "not player_does or player_does[8]",
    "agents/mapper.py": "not few_labels[network]",
    "models/quantizers/vq.py": "",
    "evaluation/metrics/formulas.py": "",
}
"""The most important files, and which of their tests run: those that take a few seconds at most,
and do not depend on how busy the machine is."""

LIBRARIES = (
    "torch", "numpy", "pytest", "hypothesis", "PIL.Image", "safetensors.torch", "huggingface_hub",
    "tensorstore", "starlette.testclient", "grimp",
)  # fmt: skip
"""Imported once, before processes are forked."""

PYTEST = (
    "-x", "-q", "--assert=plain", "--no-header", "--tb=line", "-p", "no:cacheprovider", "-p",
    "no:xdist", "-p", "no:rerunfailures", "-p", "no:faulthandler",
)  # fmt: skip
SLOWEST = 5.0
"""A mutant is stopped when its tests take so many times as long as usual."""


@dataclass(frozen=True)
class Mutant:
    """A file with one change.

    Attributes:
        change: what was changed, as a short text.
        code: of the whole file.
    """

    change: str
    code: str

    @property
    def key(self) -> str:
        """Another one when the file or the change is another."""
        return _hash(self.code)


class Mutants:
    """All mutants of a file, in a random order: each place is changed once before one is twice.

    Args:
        source: of the file.
        seed: of the order.
    """

    def __init__(self, source: str, seed: str) -> None:
        from cosmic_ray.ast import ast_nodes, get_ast

        self._source, self._kinds = source, operators()
        places: dict[Any, list[tuple[int, int]]] = defaultdict(list)
        skipped, nodes = _annotations(source), list(ast_nodes(get_ast(source)))
        for kind, operator in enumerate(self._kinds):
            found = (place for node in nodes for place in _positions(operator, node))
            for occurrence, (start, end) in enumerate(found):
                if not any(a <= start <= end <= b for a, b in skipped):
                    places[start].append((kind, occurrence))
        dice = random.Random(seed)
        rows = [dice.sample(each, len(each)) for _, each in sorted(places.items())]
        dice.shuffle(rows)
        self._order = [each for each in chain(*zip_longest(*rows)) if each is not None]

    def __len__(self) -> int:
        """Number of mutants."""
        return len(self._order)

    def __iter__(self) -> Iterator[Mutant]:
        """Makes one after the other; what is no Python or changes nothing is left out."""
        from cosmic_ray.mutating import mutate_code

        for kind, occurrence in self._order:
            code = None
            with suppress(Exception):  # an operator that does not know the syntax
                made = mutate_code(self._source, self._kinds[kind], occurrence)
                code = made if compile(made, "", "exec") else None
            if code and ast.dump(ast.parse(code)) != ast.dump(ast.parse(self._source)):
                yield Mutant(_change(self._source, code), code)


def operators() -> list[Any]:
    """Returns ways to change a place: those of Cosmic Ray that need no arguments, and one more."""
    from cosmic_ray import plugins
    from cosmic_ray.operators.operator import Operator
    from parso.python.tree import Keyword

    class DropStatement(Operator):
        """Leaves out a call or a `raise` that stands by itself."""

        def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
            first = node.children[0] if node.type == "simple_stmt" else node
            calls = first.type == "atom_expr" and first.children[-1].type == "trailer"
            if first is not node and (first.type == "raise_stmt" or calls):
                yield first.start_pos, first.end_pos

        def mutate(self, node: Any, index: int) -> Any:
            first = node.children[0]
            node.children[0] = Keyword("pass", first.start_pos, first.get_first_leaf().prefix)
            return node

        @classmethod
        def examples(cls) -> tuple[Any, ...]:
            return ()

    kinds = [plugins.get_operator(name) for name in plugins.operator_names()]
    return [kind() for kind in (*kinds, DropStatement) if not kind.arguments()]


def _positions(operator: Any, node: Any) -> list[Any]:
    try:
        return list(operator.mutation_positions(node))
    except Exception:  # an operator that does not know the syntax
        return []


def _annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Returns where annotations of functions and variables stand: they are not computed."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for name in ("annotation", "returns"):
            part = getattr(node, name, None)
            if isinstance(part, ast.expr):
                end = part.end_lineno or 0, part.end_col_offset or 0
                found.append(((part.lineno, part.col_offset), end))
    return found


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _change(before: str, after: str) -> str:
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    changed = [line[0] + " ".join(line[1:].split()) for line in lines if line[0] in "-+"]
    return " ".join(changed)[:400]


# -- running them --------------------------------------------------------------------------------


def _instead(path: Path, code: str) -> None:
    """Makes Python read this text where a module lies, and write no byte code."""
    read, stats = SourceFileLoader.get_data, SourceFileLoader.path_stats

    def get_data(self: Any, name: str) -> bytes:
        return code.encode() if name == str(path) else read(self, name)

    def path_stats(self: Any, name: str) -> Any:  # so byte code on the disk is older
        return {"mtime": 0, "size": 0} if name == str(path) else stats(self, name)

    sys.dont_write_bytecode = True
    SourceFileLoader.get_data = get_data  # type: ignore[method-assign]
    SourceFileLoader.path_stats = path_stats  # type: ignore[method-assign]


def _tested(tests: list[str], folder: Path) -> tuple[str, dict[str, float]]:
    """Runs tests; returns the modules of genie that they needed, nothing when a test failed."""
    import pytest

    passed = pytest.main([*PYTEST, f"--basetemp={folder / 'files'}", *tests])
    modules = [name for name in sys.modules if name.partition(".")[0] == "genie"]
    return " ".join(modules) if passed == 0 else "", {}


def _outcome(path: Path, mutant: Mutant, tests: list[str], folder: Path, limit: float) -> str:
    def work() -> tuple[str, dict[str, float]]:
        _instead(path, mutant.code)
        return _tested(tests, folder)

    found = in_a_child(work, folder, limit)
    (folder / "output").unlink(missing_ok=True)
    if found["what"] == "took too long":
        return "timed out"
    return "survived" if found["held"] and found["what"] else "killed"


def _run_file(name: str, folder: Path, known: dict[str, Any], options: Any, until: float) -> None:
    """Runs the mutants of a file that are missing, one after the other."""
    path, tests = SOURCE / name, [*_tests_of(name), "-k", FILES[name]]
    source = path.read_text()
    os.chdir(ROOT)
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
    for library in LIBRARIES:
        import_module(library)
    _import_all_but(_module(name), _unchanged(tests, folder).split())
    began = time.monotonic()
    _unchanged(tests, folder)
    usual = time.monotonic() - began
    print(f"{name}: {usual:.1f} s without a change", flush=True)
    for number, mutant in enumerate(Mutants(source, f"{options.seed} {name}")):
        if number >= options.most or time.monotonic() >= until:
            break
        line = known.get(mutant.key)
        if line and not (options.again and line["outcome"] == "survived"):
            continue
        began = time.monotonic()
        outcome = _outcome(path, mutant, tests, folder, SLOWEST * usual + 5)
        seconds = round(time.monotonic() - began, 2)
        line = {"file": name, "source": _hash(source), "key": mutant.key, "outcome": outcome}
        with (folder.parent / RESULTS).open("a") as file:
            file.write(json.dumps(line | {"change": mutant.change, "seconds": seconds}) + "\n")
        print(f"{name}: {outcome} ({seconds} s): {mutant.change}", flush=True)


def _tests_of(name: str) -> list[str]:
    path = Path("tests") / name
    return [str(path.with_name(f"test_{path.name}"))]


def _module(name: str) -> str:
    return "genie." + name.removesuffix(".py").replace("/", ".")


def _unchanged(tests: list[str], folder: Path) -> str:
    found = in_a_child(lambda: _tested(tests, folder), folder, 600)
    if not found["held"] or not found["what"]:
        raise RuntimeError(f"the tests fail without a change, see {folder / 'output'}")
    return found["what"]


def _import_all_but(target: str, modules: list[str]) -> None:
    """Imports what tests need of genie, but not a module nor those that import it."""
    import grimp

    graph = grimp.build_graph("genie", cache_dir=None)
    others = {target, *graph.find_downstream_modules(target)}
    shapes = import_module("shapes")
    shapes.install()
    shapes.install = lambda: None  # by the tests, a second time
    for module in modules:
        if module not in others:
            import_module(module)
    assert target not in sys.modules, f"{target} was imported before it was changed"


def _known(folder: Path) -> dict[str, Any]:
    path, lines = folder / RESULTS, {}
    for text in path.read_text().splitlines() if path.exists() else ():
        with suppress(ValueError):  # the process was killed while it wrote
            line = json.loads(text)
            first = lines.get(line["key"], line)
            lines[line["key"]] = line | {"first": first.get("first", line["outcome"])}
    return lines


# -- what is told of them ------------------------------------------------------------------------


def figures(name: str, known: dict[str, Any]) -> dict[str, Any] | None:
    """Returns what the page says of a file, or None where no mutant of it was run."""
    source = (SOURCE / name).read_text()
    lines = [line for line in known.values() if line["source"] == _hash(source)]
    if not lines:
        return None
    read = json.loads(READ.read_text()).get(name, {}) if READ.exists() else {}
    survivors = [line["change"] for line in lines if line["outcome"] == "survived"]
    counts = Counter(line["outcome"] for line in lines)
    return {
        "file": name,
        "mutants": len(Mutants(source, "")),
        "run": len(lines),
        "killed": counts["killed"],
        "timed out": counts["timed out"],
        "survived at first": sum(line["first"] == "survived" for line in lines),
        "survived": counts["survived"],
        "read as": dict(Counter(read.get(change, "not read") for change in survivors)),
        "survivors": survivors,
        "seconds": round(sum(line["seconds"] for line in lines)),
    }


def _write(path: Path, known: dict[str, Any], seed: int) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from _machine import about

    rows = [row for name in FILES if (row := figures(name, known))]
    path.write_text(json.dumps({**about(), "seed": seed, "files": rows}, indent=1) + "\n")


def main() -> None:
    """Runs what is missing, each file in a process of its own, one after the other."""
    parser = argparse.ArgumentParser(prog="mutants", description="Changes files, and tests them.")
    parser.add_argument("--run", type=Path, default=ROOT / "build" / "mutants", help="its folder")
    parser.add_argument("--only", nargs="+", default=list(FILES), choices=FILES, help="files")
    parser.add_argument("--minutes", type=float, default=60, help="of all files together")
    parser.add_argument("--most", type=int, default=150, help="mutants of a file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="run survivors again")
    parser.add_argument("--write", type=Path, help="JSON file for the figures of the page")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    for number, name in enumerate(options.only if options.minutes else ()):
        now = time.monotonic()
        until = now + (end - now) / (len(options.only) - number)  # what one leaves, others get
        folder = options.run.absolute() / name.replace("/", "-").removesuffix(".py")
        folder.mkdir(parents=True, exist_ok=True)
        known = _known(options.run)
        work = fork(lambda: _run_file(name, folder, known, options, until), folder / "log")  # noqa: B023
        code, _ = ended(work, max(0, until - now) + 600)
        print(f"{name}: {'done' if code == 0 else f'failed, see {folder}/log'}", flush=True)
    if options.write:
        _write(options.write, _known(options.run), options.seed)


if __name__ == "__main__":
    main()
