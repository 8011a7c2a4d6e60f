"""Writes the tables of the documentation from the JSON files that hold their figures.

A table stands between `<!-- table: NAME -->` and `<!-- end -->` in a Markdown file. NAME is a
function of this file and its arguments, as in `recipe quantizer`. `make tables` writes all tables;
`tests/test_tables.py` checks that they are up to date.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
TABLE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)

Row = Sequence[str]


def pages() -> list[Path]:
    """Returns all Markdown files that may hold tables."""
    from genie.world import bundled

    cards = [
        folder / "README.md" for name in bundled.names() if (folder := bundled.folder_of(name))
    ]
    docs = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", *(card for card in cards if card.is_file()), *docs]


def rendered(text: str) -> str:
    """Returns the text of a page with its tables written anew."""

    def write(match: re.Match[str]) -> str:
        name, *arguments = match[2].split()
        return f"{match[1]}\n{TABLES[name](*arguments)}\n\n{match[3]}"

    return TABLE.sub(write, text)


def markdown(header: Row, rows: Iterable[Row]) -> str:
    """Returns a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read(path: Path | str) -> dict[str, Any]:
    """Returns a JSON file: a path in the repository, or the name of a result."""
    path = RESULTS / f"{path}.json" if isinstance(path, str) else path
    return json.loads(path.read_text("utf-8"))


# -- bundled worlds ------------------------------------------------------------------------------

Report = Mapping[str, Any]
HEADER = ("metric", "value", "baseline", "target")


def results(*world: str) -> str:
    """Returns the five results of the README, of the default world if none is named."""
    report, name = _world(*world)
    rows = (_tokenizer(report), _delta_psnr(report), _coherence(report), _information(report))
    return markdown(HEADER, (*rows, *_speed(name)))


def card(*world: str) -> str:
    """Returns all results of a model card."""
    report, name = _world(*world)
    rows = [row(report) for key, row in CARD if "skipped" not in report[key]]
    coherent = report["coherence"].get("rollouts", ())
    rows += [_coherence(report, number) for number in range(len(coherent))]
    return markdown(HEADER, (*rows, *_speed(name)))


def _world(*name: str) -> tuple[Report, str]:
    from genie.world import bundled

    world = name[0] if name else bundled.DEFAULT
    folder = bundled.folder_of(world)
    assert folder is not None, f"{world}: no bundled world"
    return read(folder / "report.json"), world


def _target(value: float, wanted: float, text: str = "") -> str:
    return f"{text or f'{wanted:g}'}: {'reached' if value >= wanted else '**missed**'}"


def _error(part: Report) -> float:
    return part["psnr_mean_error"]


def _tokenizer(report: Report) -> Row:
    part = report["tokenizer"]
    value = _error(part["reconstruction"])
    beside = f"copying the last frame {_error(part['copy_last_frame']):.1f}"
    return "Tokenizer, PSNR of the mean error", f"{value:.1f} dB", beside, _target(value, 30)


def _delta_psnr(report: Report) -> Row:
    part = report["rollouts"]
    at = part["at"]["4"]["delta_psnr"]
    value = f"{at['mean']:.1f} dB ± {at['stderr']:.1f} (s.e.)"
    return f"ΔPSNR at t = 4 ({part['clips']:,} games)", value, "0", _target(at["mean"], 1)


def _rollouts(report: Report) -> Row:
    at = report["rollouts"]["at"] | report["long_rollouts"]["at"]
    times = [time for time in ("1", "4", "16", "64") if time in at]

    def side(name: str) -> str:
        return ", ".join(f"{_error(at[time][name]):.1f}" for time in times)

    name = f"Rollout with inferred actions, PSNR at t = {', '.join(times)}"
    return name, f"{side('inferred')} dB", f"copying {side('copy_last_frame')}", ""


def _scrolling(report: Report) -> Row:
    part = report["scrolling"]
    directions = part["directions"]

    def shares(key: str) -> str:
        return ", ".join(f"{way[key]:.2f}" for way in directions.values())

    name = f"Action held for {part['steps']} steps, scene scrolls that way: {', '.join(directions)}"
    beside = f"real game {shares('real')}; any action {shares('chance')}"
    lowest = min(way["relative"] for way in directions.values())
    return name, shares("share"), beside, _target(lowest, 0.8, "0.8 of the real game")


def _closed_loop(report: Report) -> Row:
    mean = report["closed_loop"]["mean"]
    name = "The same by the action classifier, all actions, relative to the real game"
    if "skipped" in report["scrolling"]:
        steps = report["closed_loop"]["real_steps"]
        name = f"Action held for {steps} steps, relative to the real game"
    return name, f"{mean['relative']:.2f}", f"any action {mean['relative_chance']:.2f}", ""


def _separation(report: Report) -> Row:
    part = report["separation"]
    name = "Variance of next frames between actions over within"
    return name, f"{part['ratio']:.1f}", f"chance {part['null_95']:.1f}", ""


def _following(report: Report) -> Row:
    part = report["action_following"]
    real, random, ours = (part[side]["macro_f1"] for side in ("real", "random", "inferred"))
    beside = f"real video {real:.2f}, random actions {random:.2f}"
    return "True action read back from rollouts, macro F1", f"{ours:.2f}", beside, ""


def _information(report: Report) -> Row:
    part = report["supervised"]["action_alignment"]["raw"]
    nats = {side: values["mutual_information"] for side, values in part["conditions"].items()}
    beside = f"k-means {nats['kmeans']:.2f}, the past alone {nats['past']:.2f}"
    beside += f", ceiling {nats['ceiling']:.2f}"
    share = part["share_of_ceiling"]
    target = f"{_target(share, 0.7, '0.7 of the ceiling')}, {share:.2f}"
    name = "Mutual information of latent and true actions"
    return name, f"{nats['latent']:.2f} nats", beside, target


def _coherence(report: Report, number: int = 0) -> Row:
    play = report["coherence"]["rollouts"][number]
    ours, real = play["coherent_seconds"], play["real_coherent"]
    value = f"{ours['mean']:.1f} (95 %: {ours['low']:.1f} to {ours['high']:.1f})"
    beside = f"real video {real['mean_seconds']:.1f} of {real['up_to_seconds']:.0f}"
    name = f"Coherent seconds of {play['seconds']:.0f} ({play['games']} games)"
    return name, value, beside, "" if number else _target(ours["mean"], 15)


CARD: tuple[tuple[str, Callable[[Report], Row]], ...] = (
    ("tokenizer", _tokenizer),
    ("rollouts", _delta_psnr),
    ("rollouts", _rollouts),
    ("scrolling", _scrolling),
    ("closed_loop", _closed_loop),
    ("separation", _separation),
    ("action_following", _following),
    ("supervised", _information),
)
"""Rows of a model card, and the section of the report that each needs."""


def _speed(world: str) -> list[Row]:
    files = [RESULTS / f"play-{world}{way}.json" for way in ("", "-compiled")]
    rates = [_one_player(read(path))["frames_per_second"] for path in files if path.is_file()]
    if not rates:
        return []
    value = "; with `--compile` ".join(f"{rate:.0f}" for rate in rates)
    return [("Frames/s, two CPU cores", value, "", _target(rates[0], 15))]


def _one_player(result: Report) -> dict[str, Any]:
    return next(row for row in result["play"] if row["players"] == 1)


def miner() -> str:
    """Returns the results of the world of Miner, whose report has an earlier form."""
    report = read("miner-report")
    tokenizer, at, labels = report["tokenizer"], report["rollouts"]["at"], report["supervised"]
    delta, losses = at["4"]["delta_psnr"], report["dynamics"]
    curves = {
        side: ", ".join(f"{_error(part[side]):.1f}" for part in at.values())
        for side in ("inferred", "copy_last_frame")
    }
    rows = [
        (
            "Tokenizer, PSNR of the mean error (copying the last frame)",
            f"{_error(tokenizer['reconstruction']):.1f} dB "
            f"({_error(tokenizer['copy_last_frame']):.1f})",
        ),
        (
            f"ΔPSNR at t = 4 (standard error, {report['rollouts']['episodes']} episodes)",
            f"{delta['mean']:.2f} dB ({delta['stderr']:.2f})",
        ),
        (
            f"Perplexity of {report['latent_actions']['count']} latent actions",
            f"{report['latent_actions']['perplexity']:.1f}",
        ),
        (
            "Masked cross-entropy, right and shuffled actions",
            f"{losses['inferred']['cross_entropy']:.2f}, "
            f"{losses['shuffled']['cross_entropy']:.2f} nats",
        ),
        (
            f"Rollout, PSNR of the mean error at t = {', '.join(at)} (copying)",
            f"{curves['inferred']} dB ({curves['copy_last_frame']})",
        ),
        (
            "Held actions: distance between actions over between seeds",
            f"{report['held_actions']['ratio']:.2f}",
        ),
        (
            "Mutual information with the true actions (chance, 95 %)",
            f"{labels['mutual_information']:.3f} nats "
            f"({labels['chance']['mutual_information_95']:.3f})",
        ),
    ]
    return markdown(("metric", "`miner`"), rows)


# -- presets -------------------------------------------------------------------------------------


def presets() -> str:
    """Returns sizes, budgets and memory of all presets; weights are counted, not made."""
    import torch

    from genie.presets import registry
    from genie.world.genie import Genie

    known = read("presets")
    rows = []
    for name, preset in registry.PRESETS.items():
        with torch.device("meta"):
            world = Genie(preset.world)
        parts = (world.tokenizer, world.actions, world.dynamics)
        counts = [sum(weights.numel() for weights in part.parameters()) for part in parts]
        facts = known.get(name, {})
        rows.append(
            (
                f"`{name}`",
                f"{preset.world.width}x{preset.world.height}",
                *(_millions(count) for count in (*counts, sum(counts))),
                _memory(4 * sum(counts)),
                _budget(preset.train),
                facts.get("training_memory", "not measured"),
                facts.get("trained", "no"),
            )
        )
    header = ("preset", "frame", "tokenizer", "latent actions", "dynamics", "parameters")
    header += ("weights in fp32", "training budget", "training memory", "trained")
    return markdown(header, rows)


def _millions(count: int) -> str:
    return f"{count / 1e9:.2f}B" if count >= 1e9 else f"{count / 1e6:.1f}M"


def _memory(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _budget(train: Any) -> str:
    stages = (train.tokenizer, train.actions, train.dynamics)
    if all(stage.minutes for stage in stages):
        return f"{sum(stage.minutes for stage in stages):.0f} minutes"
    return " + ".join(f"{stage.steps // 1000}k" for stage in stages) + " steps"


# -- benchmarks ----------------------------------------------------------------------------------


def play() -> str:
    """Returns the speed of play in all results of `benchmarks/play.py`."""
    rows = []
    for path in sorted(RESULTS.glob("play-*.json"), key=_natural):
        result = read(path)
        rates = {row["players"]: row["frames_per_second"] for row in result["play"]}
        rows.append(
            (
                result["world"],
                str(result["tokens"]),
                str(result["passes"]),
                {"32": "fp32"}.get(result["dtype"], result["dtype"]),
                "yes" if result.get("compiled") else "no",
                f"{_one_player(result)['ms']:.1f}",
                f"{rates[1]:.1f}",
                f"{rates[8]:.1f}" if 8 in rates else "not measured",
                f"{result['slow_twin']['times_faster']:.1f}",
                f"`{result['commit']}`",
            )
        )
    header = ("world", "tokens", "MaskGIT steps", "type", "compiled", "ms", "frames/s")
    header += ("frames/s of 8 players", "times the speed without a cache", "commit")
    return markdown(header, rows)


def _natural(path: Path) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)]


def gpu() -> str:
    """Returns the bars of `benchmarks/gpu_bars.py` on each GPU that was measured."""
    tables = []
    for path in sorted(RESULTS.glob("gpu-bars*.json")):
        result = read(path)
        rows = [(name, *_bar(bar)) for name, bar in result["bars"].items()]
        header = ("bar", "unit", "asked", "best", "way")
        about = result["about"]
        title = f"{about['gpu']}, torch {about['torch']}, {result['minutes']:g} minutes in all:"
        tables.append(f"{title}\n\n{markdown(header, rows)}{_missing(result['rows'])}")
    return "\n\n".join(tables) or "No GPU was measured yet."


def _missing(rows: Sequence[Report]) -> str:
    ways: dict[str, list[str]] = {}
    for row in rows:
        if "not_measured" in row:
            ways.setdefault(f"{row['how']}, {row['not_measured']}", []).append(row["bar"])
    lines = [f"- {way}: {', '.join(bars)}" for way, bars in ways.items()]
    return "\n\nNot measured:\n\n" + "\n".join(lines) if lines else ""


def _bar(bar: Report) -> Row:
    if bar["best"] is None:
        return bar["unit"], f"{bar['least']:g}", "not measured", ""
    missed = "" if bar["reached"] else " (**missed**)"
    return bar["unit"], f"{bar['least']:g}", f"{bar['best']:g}{missed}", bar["how"]


def training() -> str:
    """Returns the time of training steps, from `benchmarks/train.py`."""
    rows = [
        (
            step["model"],
            {"32": "fp32"}.get(step["precision"], step["precision"]),
            f"{step['ms']:.0f}",
        )
        for step in read("train-peers4")["steps"]
    ]
    return markdown(("model", "type", "ms of a step"), rows)


def data() -> str:
    """Returns the speed of recording, preparing and reading."""
    rows = []
    for result in read("record")["results"]:
        notes = [f"{key} {result[key]}" for key in ("preset", "size") if key in result]
        name = ", ".join([f"record {result['env']}", *notes])
        rows.append((name, f"{result['frames_per_second']:,.0f}"))
    prepared = read("prepare")
    rows.append(("prepare, mp4 to store", f"{prepared['prepare']['frames_per_second']:,.0f}"))
    for reads in prepared["reads"]:
        name = f"random windows of 16 frames from {reads['from']}"
        rows.append((name, f"{reads['frames_per_second']:,.0f}"))
    return markdown(("what", "frames/s"), rows)


def growth() -> str:
    """Returns the time of a step by the length of the game and the number of players."""
    result = read("growth")
    rows = [(f"step {row['history']:,} of a game", f"{row['ms']:.1f}") for row in result["history"]]
    rows += [(f"{row['players']} players", f"{row['ms']:.1f}") for row in result["players"]]
    rows += [
        (f"frames of {row['frame_side']} pixels", f"{row['ms']:.1f}")
        for row in result["frame_side"]
    ]
    return markdown(("preset `tiny`", "ms of a step"), rows)


# -- questions of benchmarks/recipe.py -----------------------------------------------------------

NAMES = {
    "steps": ("steps", 0),
    "tokenizer_steps": ("steps", 0),
    "actions_steps": ("steps of latent actions", 0),
    "dynamics_steps": ("steps of dynamics", 0),
    "psnr_1": ("PSNR at t = 1", 1),
    "psnr_4": ("t = 4", 1),
    "psnr_16": ("t = 16", 1),
    "psnr_64": ("t = 64", 1),
    "copy_64": ("copying at t = 64", 1),
    "delta_psnr_4": ("ΔPSNR", 1),
    "cross_entropy_inferred": ("masked cross-entropy", 2),
    "psnr_mean_error": ("PSNR of the mean error", 1),
    "psnr_moving": ("moving pixels", 1),
    "used": ("codes in use", 2),
    "parameters": ("parameters", 0),
    "ms_per_step": ("ms of a step", 0),
    "encode_fps": ("encoding, frames/s", 0),
    "decode_fps": ("decoding, frames/s", 0),
    "play_fps": ("decoding one by one, frames/s", 0),
    "mutual_information": ("mutual information, nats", 2),
    "held_right": ("held right scrolls right", 2),
    "held_relative": ("held actions relative to the real game", 2),
    "coherent_seconds": ("coherent seconds", 1),
    "moving_inferred": ("moving pixels, inferred codes", 1),
    "moving_random": ("random codes", 1),
    "frames_per_second": ("frames/s in play", 0),
    "lost": ("games lost", 0),
}


def recipe(question: str, *keys: str) -> str:
    """Returns the answer of `benchmarks/recipe.py` to a question: means and figures per seed."""
    rows = read(f"recipe-{question}")["rows"]
    header = ["variant", *(_column(key)[0] for key in keys)]
    body = [(name, *(_cell(runs, key) for key in keys)) for name, runs in rows.items()]
    return markdown(header, body)


def variants(stage: str, *keys: str) -> str:
    """Returns the runs of `benchmarks/variants.py` of a stage: means and figures per seed."""
    lines = (RESULTS / "variants.jsonl").read_text("utf-8").splitlines()
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in map(json.loads, lines):
        if row["stage"] == stage:
            found.setdefault((row["variant"], row["budget"]), []).append(row)
    header = ["variant", "same", "steps", *(_column(key)[0] for key in keys)]
    body = [
        (
            name,
            budget,
            f"{runs[0]['steps']:,}",
            *(_cell([run for run in runs if key in run], key) for key in keys),
        )
        for (name, budget), runs in found.items()
    ]
    return markdown(header, body)


def mapper(world: str) -> str:
    """Returns the results of `benchmarks/action_mapper.py`: accuracy and mean recall."""
    lines = read("action-mapper")["worlds"][world]["curve"]
    names = {
        "commonest": "commonest action",
        "frame_alone": "frame alone",
        "supervised": "supervised",
        "dictionary": "dictionary",
        "network": "network",
    }
    shown = {key: name for key, name in names.items() if key in lines[0]}
    header = ["labels", *shown.values(), "real to latent: dictionary", "network"]
    rows = [
        (
            f"{line['labels']:,}",
            *(_accuracy(line[key].get("to_real", line[key])) for key in shown),
            *(_accuracy(line[kind]["to_latent"]) for kind in ("dictionary", "network")),
        )
        for line in lines
    ]
    return markdown(header, rows)


def planning() -> str:
    """Returns the results of `genie agent plan`: goals reached, beside random play."""
    shown = {
        "random": "random play",
        "latent_shooting": "world, latent actions, random shooting",
        "latent": "world, latent actions, cross-entropy method",
        "named": "world, real actions, cross-entropy method",
        "simulator": "real simulator, cross-entropy method",
    }
    found = read("planning")["methods"]
    rows = [
        (
            title, f"{found[name]['goals']}", _between(found[name]["reached"]),
            _between(found[name]["above_random"]) if "above_random" in found[name] else "",
            f"{found[name]['nearest']:.2f}",
        )
        for name, title in shown.items()
    ]  # fmt: skip
    return markdown(("", "goals", "reached", "above random play", "nearest, cells"), rows)


def _between(section: Report) -> str:
    return f"{section['mean']:.2f} ({section['low']:.2f} to {section['high']:.2f})"


def _accuracy(section: Report) -> str:
    accuracy, recall = section["accuracy"], section["balanced_accuracy"]["mean"]
    half = accuracy["high"] - accuracy["mean"]
    return f"{accuracy['mean']:.2f} ± {half:.2f} ({recall:.2f})"


def _column(key: str) -> tuple[str, int]:
    split, _, last = key.rpartition(":")
    title, digits = NAMES[last]
    return (f"{title} on {split}" if split else title), digits


def _cell(runs: Sequence[Mapping[str, float]], key: str) -> str:
    digits = _column(key)[1]
    values = [_value(run, key.replace(":", ": ")) for run in runs]
    if not values:
        return "not measured"
    mean = f"{sum(values) / len(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({', '.join(f'{v:.{digits}f}' for v in values)})"


def _value(run: Mapping[str, float], key: str) -> float:
    if key == "lost":
        return sum(value for name, value in run.items() if name.startswith("ended_"))
    return run[key]


# -- experiments ---------------------------------------------------------------------------------


def experiments() -> str:
    """Returns the index of all experiments: date, question and decision."""
    rows = []
    for path in sorted((ROOT / "docs" / "experiments").glob("2*.md")):
        text = path.read_text("utf-8")
        question = text.splitlines()[0].removeprefix("# ")
        decision = text.split("## Decision\n\n")[1].replace("\n", " ")
        first = re.split(r"(?<=[\w)][.])\s", decision.strip())[0].replace("|", "/")
        rows.append((path.name[:10], f"[{question}]({path.name})", first))
    return markdown(("date", "question", "decision"), rows)


def clone(world: str, figure: str = "mean") -> str:
    """Returns what `genie agent clone` measured for each number of labels: returns or accuracy."""
    report = read("agent-clone")["worlds"][world]
    kinds = list(dict.fromkeys(key for line in report["curve"] for key in line if key != "labels"))

    def cell(line: Report, kind: str) -> str:
        if kind not in line:
            return ""
        part = line[kind]
        return _earned(part) if figure == "mean" else f"{part[figure]:.2f}"

    rows = [
        (f"{line['labels']:,}", *(cell(line, kind) for kind in kinds)) for line in report["curve"]
    ]
    return markdown(["labels", *kinds], rows)


def clone_references(world: str) -> str:
    """Returns what players without labels, or with all of them, earn beside a clone."""
    report = read("agent-clone")["worlds"][world]
    parts = report["references"]
    rows = [
        (name, _earned(part), f"{part['steps']:.0f}", _optional(part, "accuracy"))
        for name, part in parts.items()
    ]
    return markdown(("player", "mean return (95 %)", "steps a game", "accuracy"), rows)


def _optional(part: Report, key: str) -> str:
    return f"{part[key]:.2f}" if key in part else ""


def _earned(part: Report) -> str:
    return f"{part['mean']:.2f} ({part['low']:.1f} to {part['high']:.1f})"


ONLY_IN_JSON = "tries of ", "p99 ratio in ", "frames compared", "steps", "minutes"
"""How figures of attacks begin that have no place in a cell."""


def reliability() -> str:
    """Returns what `make campaign` counted: attacks, trials, what held, and how long it took."""
    rows = [
        (
            row["about"],
            f"{row['trials']:,} of {row['planned']:,}",
            f"{row['held']:,}" if row["held"] == row["trials"] else f"**{row['held']:,}**",
            row["bar"],
            "; ".join(
                f"{name} {value:,.4g}"
                for name, value in row["most"].items()
                if not name.startswith(ONLY_IN_JSON)
            ),
            f"{row['seconds']:,.0f}",
        )
        for row in read("reliability")["attacks"]
    ]
    return markdown(("attack", "trials run", "held", "bar", "largest seen", "seconds"), rows)


def versions() -> str:
    """Returns what this program opens of earlier versions, and of how many."""
    (row,) = (row for row in read("reliability")["attacks"] if row["name"] == "versions")
    return markdown(
        ("of a version", "versions"), [(what, str(n)) for what, n in row["outcomes"].items()]
    )


def dependencies() -> str:
    """Returns what tests passed with other versions, of `campaign/dependencies.py`."""
    rows = read("dependencies")
    names = [key for key in next(iter(rows.values())) if key not in ("passed", "failed")]
    found = [
        (name, *(row[key] for key in names), f"{row['passed']} of {row['passed'] + row['failed']}")
        for name, row in rows.items()
    ]
    return markdown(("dependencies", *names, "tests passed"), found)


def mutants() -> str:
    """Returns how many mutants of each file the tests notice, of `campaign/mutants.py`."""
    rows = [
        (
            f"`{row['file']}`",
            *(f"{row[key]:,}" for key in ("mutants", "run", "survived at first", "survived")),
            f"{sum(n for kind, n in row['read as'].items() if kind.startswith('same')):,}",
            f"{(row['killed'] + row['timed out']) / row['run']:.0%}",
        )
        for row in read("mutants")["files"]
    ]
    header = ("file", "mutants", "tried", "survived at first", "survive now", "of these equivalent")
    return markdown((*header, "noticed now"), rows)


def survivors() -> str:
    """Returns what survivors of mutation testing are, by kind, and how many there are of each."""
    counts: Counter[str] = Counter()
    for row in read("mutants")["files"]:
        counts.update(row["read as"])
    return markdown(("survivors", "how many"), [(k, f"{n:,}") for k, n in counts.most_common()])


# -- studies ---------------------------------------------------------------------------------------

ARMS = ("from nothing", "as it is", "fine-tuned")


def _study(name: str) -> Mapping[str, Report]:
    """The rows of a study, none where it was not run yet."""
    path = RESULTS / f"study-{name}.json"
    return read(path)["rows"] if path.exists() else {}


def _mean(part: Report) -> str:
    return f"{part['mean']:.2f} ± {part['stderr']:.2f}"


def _interval(value: float, ends: Sequence[float]) -> str:
    return f"{value:.1f} ({ends[0]:.1f} to {ends[1]:.1f})"


def _beside_chance(row: Report) -> str:
    if "information" not in row:
        return ""
    return f"{row['information']:.2f} ({row['information_chance']:.2f})"


def genres() -> str:
    """Returns what worlds from nothing reach in each genre, of `benchmarks/study_genres.py`."""
    header = (
        "genre", "tokenizer, dB (95 %)", "rollout at t = 4, dB (95 %)", "copying", "ΔPSNR ± s.e.",
        "separation (chance)", "information, nats (chance)", "actions in use",
    )  # fmt: skip
    body = [
        (
            row["genre"],
            _interval(row["tokenizer"], row["tokenizer_interval"]),
            _interval(row["psnr"], row["psnr_interval"]),
            f"{row['copying']:.1f}",
            _mean(row["delta_psnr"]),
            f"{row['separation']:.1f} ({row['separation_chance']:.1f})",
            _beside_chance(row),
            f"{row['perplexity']:.1f}",
        )
        for row in _study("genres").values()
        if row["arm"] == "from nothing"
    ]
    return markdown(header, body)


def transfer() -> str:
    """Returns what a platformer's world gives other genres, of `benchmarks/study_genres.py`."""
    rows, parts = _study("genres"), ("tokenizer, dB", "ΔPSNR ± s.e.", "over copying, dB")
    header = ("genre", *(f"{part}: {arm}" for part in parts for arm in ARMS))
    genres = [row["genre"] for row in rows.values() if row["arm"] == "as it is"]

    def cells(genre: str, show: Callable[[Report], str]) -> Iterable[str]:
        found = (rows.get(f"{genre}, {arm}") for arm in ARMS)
        return ("" if row is None else show(row) for row in found)

    body = [
        (
            genre,
            *cells(genre, lambda row: f"{row['tokenizer']:.1f}"),
            *cells(genre, lambda row: _mean(row["delta_psnr"])),
            *cells(genre, lambda row: f"{row['gain']:.1f}"),
        )
        for genre in genres
    ]
    return markdown(header, body)


def prompts() -> str:
    """Returns how directions are followed from each kind of picture, of `study_prompts.py`."""
    directions = ("left", "right", "jump")

    def cell(part: Report) -> str:
        found = part["difference"]
        shares = f"{part['share']:.2f} ({part['others']:.2f})"
        return f"{shares}: {found['mean']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})"

    body = [
        (kind, f"{row['reconstruction']:.1f}", *(cell(row[way]) for way in directions))
        for kind, row in _study("prompts").items()
    ]
    return markdown(("prompts", "reconstruction, dB", *directions), body)


def scaling() -> str:
    """Returns the losses of `benchmarks/study_scaling.py`, a row a size."""
    rows = _study("scaling")
    budgets = list(dict.fromkeys((row["steps"], row["share"]) for row in rows.values()))
    header = ("size", "parameters", *(f"{n:,} steps, {s:.0%} of the data" for n, s in budgets))
    found = {(row["size"], row["steps"], row["share"]): row for row in rows.values()}
    sizes = {row["size"]: row["parameters"] for row in rows.values()}
    body = [
        (
            size,
            f"{count / 1e6:.2f}M",
            *(
                _mean(found[size, *budget]["loss"]) if (size, *budget) in found else ""
                for budget in budgets
            ),
        )
        for size, count in sizes.items()
    ]
    return markdown(header, body)


def scaling_fits() -> str:
    """Returns the power laws of `benchmarks/study_scaling.py`."""
    body = [
        (name, f"{fit['exponent']:.3f}", _known(fit["stderr"]), str(fit["points"]))
        for name, fit in _fits().items()
    ]
    return markdown(("loss falls with", "exponent", "standard error", "points"), body)


def _fits() -> Mapping[str, Report]:
    path = RESULTS / "study-scaling.json"
    return read(path).get("fits", {}) if path.exists() else {}


def _known(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"


def robots() -> str:
    """Returns the result of `benchmarks/study_robots.py`, as far as it is measured."""
    rows = _study("robots")
    names = {
        "latent": "latent actions", "shuffled": "shuffled latent actions",
        "ceiling": "k-means of the true actions",
    }  # fmt: skip
    body = [
        (
            f"R² of the true action, {name}",
            f"{found['r2']:.2f} ({found['low']:.2f} to {found['high']:.2f})",
        )
        for key, name in names.items()
        if "directions" in rows and (found := rows["directions"][key])
    ]
    if (row := rows.get("quality")) is not None:
        body += [
            ("ΔPSNR at t = 4, dB ± s.e. (paper: 2.07)", _mean(row["delta_psnr"])),
            ("tokenizer, dB (95 %)", _interval(row["tokenizer"], row["tokenizer_interval"])),
            ("rollout at t = 4, dB (95 %)", _interval(row["psnr"], row["psnr_interval"])),
            ("copying the prompt, dB", f"{row['copying']:.1f}"),
            ("latent actions in use", f"{row['perplexity']:.1f}"),
        ]
    return markdown(("figure", "value"), body)


def licences() -> str:
    """Returns how many of the packages that Genie needs have which licence, and which those are."""
    kinds: dict[str, list[str]] = {}
    for name, row in read("licences").items():
        kinds.setdefault(row["licence"], []).append(name)
    rows = [
        (kind, f"{len(names)}", ", ".join(f"`{name}`" for name in names))
        for kind, names in sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    return markdown(("licence, as stated", "packages", "which"), rows)


# -- curation ------------------------------------------------------------------------------------


def curation() -> str:
    """Returns what a quality filter and the search for duplicates keep of a mixed set of videos."""
    told = read("curation")
    header = (
        "labels", "`--keep_best`", "kept", "precision", "recall", "at random: precision", "recall",
    )  # fmt: skip
    rows = []
    for row in told["filters"]:
        figures = ("precision", "recall", "random_precision", "random_recall")
        shares = (f"{row[name]:.2f}" for name in figures)
        kept = f"{row['kept']} of {sum(told['test'].values())}"
        rows.append((str(row["labels"]), f"{row['keep_best']:g}", kept, *shares))
    found = told["duplicates"]
    copies = (
        f"Of {found['copies']} copies in another size or brightness, {found['copies_dropped']} "
        f"were dropped, and {found['originals_dropped']} of {found['originals']} other clips."
    )
    return f"{markdown(header, rows)}\n\n{copies}"


TABLES: dict[str, Callable[..., str]] = {
    function.__name__: function
    for function in (
        results, card, miner, presets, play, training, data, growth, gpu, recipe, variants, mapper,
        clone, clone_references, planning, reliability, versions, dependencies, licences,
        mutants, survivors,
        experiments, genres, transfer, prompts, scaling, scaling_fits, robots, curation,
    )
}  # fmt: skip


def main() -> None:
    """Writes all tables in place."""
    for page in pages():
        text = page.read_text("utf-8")
        if (new := rendered(text)) != text:
            page.write_text(new, "utf-8")
            print(f"{page.relative_to(ROOT)}: written")


if __name__ == "__main__":
    main()
