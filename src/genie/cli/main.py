"""The command `genie`: a parser for each command, built when it is chosen, so that help is quick.

Options come from the signatures and docstrings of the functions that do the work. Whatever a user
can get wrong ends with one sentence and exit code 2.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from genie import __version__
from genie.cli.output import unbreakable_output
from genie.core.config import Device, Dtype, UserError, require
from genie.world import bundled

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

SHOWN_NOTES = 10
"""Of the notes on videos; all of them are in the store."""


@dataclass(frozen=True)
class Command:
    """A command of the program.

    Attributes:
        about: one line for `genie --help`.
        example: how it is called.
        options: puts the options on a parser.
        run: does the work with the parsed options.
    """

    about: str
    example: str
    options: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code.

    0 is success, 2 something that the user can put right, 130 an interruption, 1 a bug of ours.
    Errors are one sentence on stderr; `--debug` or `GENIE_DEBUG=1` shows the traceback instead.

    Args:
        argv: the arguments after the program's name; those of this process when left out.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = os.environ.get("GENIE_DEBUG", "0") not in ("", "0") or "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    with unbreakable_output(), _warnings_as_notes(debug):
        try:
            _dispatch(arguments)
            return 0
        except SystemExit as end:  # --help, --print_config, and training that was asked to stop
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException as error:
            if debug:
                raise
            code, sentence = explain(error)
            print(f"genie: {sentence}", file=sys.stderr)
            return code


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code and the sentence for an error that ended a command."""
    text = " ".join(str(error).split())
    if isinstance(error, KeyboardInterrupt):
        return 130, "stopped by the keyboard; the same command goes on or starts again"
    if isinstance(error, ModuleNotFoundError):
        return 2, _how_to_install(error.name or "")
    if _lacks_memory(error):
        return 2, "out of memory: use smaller batches, or --device cpu where there is more of it"
    if isinstance(error, OSError):
        return 2, _about_file(error, text)
    if isinstance(error, ValueError):
        return 2, text
    bug = "this is a bug, --debug shows where it happened"
    return 1, f"{type(error).__name__}: {text}; {bug}"


def _lacks_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def _how_to_install(module: str) -> str:
    from genie.cli.doctor import EXTRAS

    package = module.partition(".")[0]
    for extra, modules in EXTRAS.items():
        if package in modules:
            return f"{package} is not installed: pip install 'genie-worlds[{extra}]'"
    return f"{module} is not installed: pip install genie-worlds puts everything in place"


def _about_file(error: OSError, text: str) -> str:
    place = f"{error.filename}: " if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"{place}the disk is full; free some space and give the same command again"
    if error.errno == errno.ENOENT:
        return f"{place}there is no such file or folder"
    return f"{place}{(error.strerror or text).lower()}"


@contextmanager
def _warnings_as_notes(debug: bool) -> Iterator[None]:
    """Prints what our code warns about as one-line notes, and hides what libraries deprecate."""

    def note(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if debug or category is UserWarning:
            print(f"note: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = note
        yield


def _dispatch(arguments: list[str]) -> None:
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help", "help"):
        print(_overview())
    elif name in ("-V", "--version"):
        print(f"genie {__version__}")
    elif name in COMMANDS:
        command = COMMANDS[name]
        command.run(_parsed(name, command, arguments[1:]))
    else:
        close = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(COMMANDS)}"
        raise UserError(f"there is no command {name!r}; {hint}")


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.about}" for name, command in COMMANDS.items()]
    examples = [f"  genie {c.example}" for c in COMMANDS.values() if c.example]
    return "\n".join(
        [
            "usage: genie COMMAND [options]",
            "",
            "From a folder of unlabelled videos to a world that can be played.",
            "",
            *lines,
            "",
            "The way from videos to a world:",
            "",
            *examples,
            "",
            "genie COMMAND --help lists the options; every command reads them from a file, too:",
            "--config file.yaml, and --print_config writes one. --debug shows where an error was.",
        ]
    )


def _parsed(name: str, command: Command, arguments: list[str]) -> Namespace:
    from genie.cli.parser import Parser

    parser = Parser(prog=f"genie {name}", description=f"{command.about.capitalize()}.")
    parser.add_argument("--config", action="config", help="YAML or JSON file to read options from")
    command.options(parser)
    if name == "train":
        parser.set_defaults(_train_defaults(arguments))
    return parser.parse_args(arguments)


# -- record, prepare ---------------------------------------------------------------------------


def _record_options(parser: ArgumentParser) -> None:
    from genie.data.recording.record import record

    parser.add_argument("env", help="procgen:<game> or gym:<Gymnasium id>")
    parser.add_function_arguments(record, skip={"env"})


def _record(options: Namespace) -> None:
    from genie.data.recording.record import record

    report = record(**_arguments(options))
    frames, episodes = sum(report.frames.values()), sum(report.episodes.values())
    print(
        f"{report.out}: {frames:,} frames in {episodes:,} videos, "
        f"{report.frames_per_second:,.0f} frames a second"
    )


def _prepare_options(parser: ArgumentParser) -> None:
    from genie.data.prepare import prepare

    parser.add_argument("source", help="folder of videos, at any depth")
    parser.add_function_arguments(prepare, skip={"source"})


def _prepare(options: Namespace) -> None:
    from genie.data.prepare import prepare

    report = prepare(**_arguments(options))
    for problems in (report.skipped, report.notes):
        for video, reason in list(problems.items())[:SHOWN_NOTES]:
            print(f"note: {video}: {reason}", file=sys.stderr)
        if len(problems) > SHOWN_NOTES:
            more = len(problems) - SHOWN_NOTES
            print(f"note: {more} more like these in {report.store}/store.json", file=sys.stderr)
    splits = ", ".join(f"{count:,} {split}" for split, count in report.frames.items())
    done = " (was complete before)" if report.complete_before else ""
    counts = f"{report.episodes:,} clips of {report.videos:,} videos, {splits} frames"
    print(f"{report.store}: {counts}{done}")


# -- train -------------------------------------------------------------------------------------


def _train_options(parser: ArgumentParser) -> None:
    from genie.presets.schedule import TrainConfig
    from genie.world.config import GenieConfig

    parser.add_argument("--data", required=True, help="the clip store that `genie prepare` made")
    parser.add_argument("--out", required=True, help="run folder; an unfinished run there goes on")
    parser.add_argument(
        "--preset",
        help="named sizes and schedule to start from; tiny in a new folder",
    )
    parser.add_argument(
        "--from",
        help="world to go on from: its folder, its id on the Hugging Face Hub or its name",
    )
    parser.add_argument(
        "--keep_actions",
        type=bool | None,
        help="with --from: true (the default) leaves its buttons as they are; false is for another "
        "game, and places all of their codes anew",
    )
    parser.add_argument(
        "--minutes", type=float | None, help="training time, shared out among the stages"
    )
    parser.add_argument("--stages", type=list[str] | None, help="which to run, such as [tokenizer]")
    parser.add_argument("--device", type=Device | None, help="where to train; chosen when left out")
    parser.add_class_arguments(GenieConfig)
    parser.add_class_arguments(TrainConfig, "schedule")


def _train_defaults(arguments: list[str]) -> dict[str, Any]:
    """What the options of `train` start from: a preset, a world, or an unfinished run."""
    import argparse

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in ("--preset", "--config", "--out", "--from"):
        parser.add_argument(option, nargs="?")
    given = vars(parser.parse_known_args(arguments)[0])
    values = _read_config(given["config"]) if given["config"] else {}
    preset, out, base = (given[name] or values.get(name) for name in ("preset", "out", "from"))
    if preset is None and out and os.path.isfile(record := os.path.join(str(out), "train.json")):
        settings = _read_config(record)
        return dict(_leaves(settings["world"] | {"schedule": settings["train"]}))
    if base is None:
        return _preset_values(str(preset or "tiny"))
    from genie.core.config import to_dict
    from genie.training.config import defaults

    settings = defaults(preset, str(base))
    return dict(_leaves(to_dict(settings.world) | {"schedule": to_dict(settings.train)}))


def _read_config(path: str) -> dict[str, Any]:
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.safe_load(file)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not a readable configuration file ({reason})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected options and their values, such as `preset: tiny`")
    return values


def _preset_values(name: str) -> dict[str, Any]:
    from genie.core.config import to_dict
    from genie.presets import registry

    preset = registry.get(name)
    return dict(_leaves(to_dict(preset.world) | {"schedule": to_dict(preset.train)}))


def _leaves(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield path + key, value


def _train(options: Namespace) -> None:
    from genie.core.config import from_dict
    from genie.presets.schedule import TrainConfig
    from genie.world.config import GenieConfig

    values = _arguments(options)
    data, out = values.pop("data"), values.pop("out")
    names = ("preset", "from", "keep_actions", "minutes", "stages", "device")
    own = {name: values.pop(name) for name in names}
    own["base"] = own.pop("from")
    _require_device(own["device"])
    schedule = from_dict(TrainConfig, values.pop("schedule"), "schedule")
    world = from_dict(GenieConfig, values)
    given = {name: value for name, value in own.items() if value is not None}

    from genie.training.pipeline import train  # slow to import: after the options were checked

    folder = train(data, out, world=world, schedule=schedule, **given)
    print(f"{folder}: the world is ready; play it with: genie play {folder}")


# -- evaluate, generate, play ------------------------------------------------------------------


def _evaluate_options(parser: ArgumentParser) -> None:
    from genie.evaluation.evaluate import evaluate

    parser.add_argument(
        "worlds",
        nargs="+",
        metavar="WORLD",
        help="folder of a world, its id on the Hugging Face Hub, or the name of one that comes "
        "with the package; several are set side by side. The report.json of an earlier evaluation "
        "has its page written again",
    )
    parser.add_argument("--data", help="the clip store to measure on")
    parser.add_argument(
        "--out",
        help="folder of the report; WORLD/evaluation when left out, evaluation/NAME where WORLD is "
        "no folder, `comparison` for several",
    )
    parser.add_argument("--device", type=Device | None, help="where to run; chosen when left out")
    quick = "a smaller protocol that takes a third of the time"
    parser.add_argument("--quick", action="store_true", help=quick)
    own: set[str | int] = {"world", "store", "out", "sampling", "config", "device", "quick"}
    parser.add_function_arguments(evaluate, skip=own)


def _evaluate(options: Namespace) -> None:
    from pathlib import Path

    from genie.cli.demo import print_headlines
    from genie.evaluation.compare import compare
    from genie.evaluation.evaluate import evaluate
    from genie.evaluation.report.summary import markdown

    values = _arguments(options)
    worlds, data, out = (values.pop(name) for name in ("worlds", "data", "out"))
    if worlds[0].endswith(".json"):
        _write_pages_again(worlds, out)
        return
    require(data is not None, "--data is missing: the clip store to measure on")
    _require_device(values["device"])
    if len(worlds) > 1:
        folder = Path(out or "comparison")
        print(markdown(compare(worlds, data, folder, **values)))
        print(f"{folder / 'comparison.html'}: the worlds side by side")
        return
    world = Path(worlds[0])
    beside = world / "evaluation" if world.is_dir() else Path("evaluation") / world.name
    folder = Path(out or beside)
    report = evaluate(worlds[0], data, folder, **values)
    print_headlines(report)
    print(f"{folder / 'report.html'}: the report with pictures")


def _write_pages_again(reports: list[str], out: str | None) -> None:
    from genie.evaluation.evaluate import write_page_again

    require(
        not out or len(reports) == 1,
        "--out: names one page; give one report, or leave it out to write each page beside its own",
    )
    for report in reports:
        print(f"{write_page_again(report, out)}: the page, written again")


def _generate_options(parser: ArgumentParser) -> None:
    from genie.world.generate import generate

    parser.add_argument(
        "world",
        help="folder of a world, its id on the Hugging Face Hub, or the name of one that comes "
        "with the package",
    )
    parser.add_argument(
        "prompt",
        nargs="?",
        help="picture to start from; one of the world's own when left out",
    )
    parser.add_function_arguments(generate, skip={"world", "prompt"})


def _generate(options: Namespace) -> None:
    from genie.world.generate import generate

    _require_device(options.device)
    for path in generate(**_arguments(options)):
        print(path)


def _replay_options(parser: ArgumentParser) -> None:
    from genie.world.generate import replay

    parser.add_argument("file", help="replay that the page of `genie play` saved")
    parser.add_function_arguments(replay, skip={"file"})


def _replay(options: Namespace) -> None:
    from genie.world.generate import replay

    _require_device(options.device)
    for path in replay(**_arguments(options)):
        print(path)


def _speed_options(parser: ArgumentParser) -> None:
    parser.add_argument("--device", type=Device | None, help="where to run; chosen when left out")
    words = "of the weights; bfloat16 is faster for wide worlds on most machines (docs/commands.md)"
    parser.add_argument("--dtype", type=Dtype, default="float32", help=words)
    parser.add_argument(
        "--compile",
        action="store_true",
        help="faster frames after some minutes of compiling, half a minute for each size of batch",
    )


def _play_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "world",
        nargs="?",
        default=bundled.DEFAULT,
        help="folder of a world, its id on the Hugging Face Hub, or one that comes with the "
        f"package, {', '.join(bundled.names())}; {bundled.DEFAULT} when left out",
    )
    parser.add_argument("--prompt", help="picture, or folder of pictures, that games start from")
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to serve on")
    parser.add_argument("--port", type=int, default=8000, help="TCP port; 0 takes any free one")
    parser.add_argument("--fps", type=float | None, help="frames per second; the world's own")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    _speed_options(parser)


def _play(options: Namespace) -> None:
    from genie.serving.server import serve

    _require_device(options.device)
    serve(
        options.world,
        options.host,
        options.port,
        options.prompt,
        open_browser=options.open,
        fps=options.fps,
        device=options.device,
        dtype=options.dtype,
        compile=options.compile,
    )


def _serve_options(parser: ArgumentParser) -> None:
    from genie.serving.limits import Limits

    parser.add_argument(
        "worlds",
        nargs="*",
        default=[bundled.DEFAULT],
        metavar="WORLD",
        help="folders of worlds, ids on the Hugging Face Hub, or names of those that come with the "
        f"package; {bundled.DEFAULT} when left out. Each goes by the last part of it",
    )
    words = "address to serve on; one that is not loopback wants a token"
    parser.add_argument("--host", default="127.0.0.1", help=words)
    parser.add_argument("--port", type=int, default=8000, help="TCP port; 0 takes any free one")
    parser.add_argument(
        "--token_file",
        help="file with the token that clients have to know; $GENIE_TOKEN when left out",
    )
    parser.add_argument(
        "--hosts",
        type=list[str],
        default=[],
        help="names that clients call this server by, such as [play.example.org]",
    )
    _speed_options(parser)
    parser.add_argument(
        "--names",
        action="store_true",
        help="let players keep the names of buttons in the worlds' folders",
    )
    parser.add_class_arguments(Limits, "limits")


def _serve(options: Namespace) -> None:
    from pathlib import Path

    from genie.core.config import from_dict
    from genie.serving import serve_worlds
    from genie.serving.limits import Limits

    values = _arguments(options)
    _require_device(values["device"])
    file = values.pop("token_file")
    token = Path(file).read_text("utf-8").strip() if file else os.environ.get("GENIE_TOKEN")
    limits = from_dict(Limits, values.pop("limits"), "limits")
    serve_worlds(values.pop("worlds"), limits=limits, token=token or None, **values)


# -- doctor, demo ------------------------------------------------------------------------------


def _doctor_options(parser: ArgumentParser) -> None:
    from genie.cli.doctor import doctor

    parser.add_function_arguments(doctor)


def _doctor(options: Namespace) -> None:
    from genie.cli.doctor import doctor

    doctor(**_arguments(options))


def _demo_options(parser: ArgumentParser) -> None:
    from genie.cli.demo import demo

    parser.add_function_arguments(demo, skip={"play"})
    parser.add_argument("--no-play", action="store_true", help="end after the report")


def _demo(options: Namespace) -> None:
    from genie.cli.demo import demo

    _require_device(options.device)
    values = _arguments(options)
    play = not values.pop("no_play") and sys.stdin.isatty()
    demo(**values, play=play)


def _arguments(options: Namespace) -> dict[str, Any]:
    return {key: value for key, value in options.as_dict().items() if key != "config"}


def _require_device(device: str | None) -> None:
    from genie.world.inputs import device_of

    if device not in (None, "cpu"):
        device_of(device)


COMMANDS = {
    "record": Command(
        "play Procgen or a Gymnasium environment into videos",
        "record procgen:coinrun --out videos/",
        _record_options,
        _record,
    ),
    "prepare": Command(
        "turn a folder of videos into a clip store",
        "prepare videos/ --out data/coinrun",
        _prepare_options,
        _prepare,
    ),
    "train": Command(
        "train a world: tokenizer, latent actions, dynamics",
        "train --preset coinrun --data data/coinrun --out runs/coinrun",
        _train_options,
        _train,
    ),
    "evaluate": Command(
        "measure a world: how good, how controllable",
        "evaluate runs/coinrun --data data/coinrun",
        _evaluate_options,
        _evaluate,
    ),
    "generate": Command(
        "play a list of actions into a video",
        "generate runs/coinrun prompt.png --actions 1,1,2,0 --out clip.mp4",
        _generate_options,
        _generate,
    ),
    "play": Command("play a world in the browser", "play runs/coinrun", _play_options, _play),
    "replay": Command(
        "play a saved game again into a video",
        "replay coinrun.replay.json --out clip.mp4",
        _replay_options,
        _replay,
    ),
    "serve": Command(
        "serve worlds to others: players, clips on request, metrics",
        "",
        _serve_options,
        _serve,
    ),
    "doctor": Command(
        "say what this machine has, and what would be slow or missing",
        "",
        _doctor_options,
        _doctor,
    ),
    "demo": Command(
        "make a small world of the sample videos, report, and play it",
        "",
        _demo_options,
        _demo,
    ),
}
