"""Worlds as a site that any file server serves: the page, the graphs and what runs them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from genie.core.config import UserError, require
from genie.export.onnx import DESCRIPTION, Weights, export_onnx, name_of, put
from genie.world.hub import world_folder


@dataclass(frozen=True)
class Package:
    """A package of npm's registry that a site needs.

    Attributes:
        name: and version, as npm wants them.
        folder: of its files in the package.
        files: that are copied.
        on_demand: those of them that few visits load.
    """

    name: str
    folder: str
    files: tuple[str, ...]
    on_demand: tuple[str, ...] = ()


WEBGPU = (
    "ort.jspi.min.mjs",
    "ort-wasm-simd-threaded.jspi.mjs",
    "ort-wasm-simd-threaded.jspi.wasm",
)
"""The smallest build with WebGPU: for browsers that suspend WebAssembly (JSPI)."""
PACKAGES = (
    # Plays the graphs (MIT licence).
    Package(
        "onnxruntime-web@1.30.0",
        "dist",
        ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm", *WEBGPU),
        on_demand=WEBGPU,
    ),
    # Writes video files of frames that the browser encodes (Mozilla Public License 2.0).
    Package("mediabunny@1.61.0", "dist/bundles", ("mediabunny.min.mjs",)),
    # Makes GIFs (MIT).
    Package("gifenc@1.0.3", "dist", ("gifenc.esm.js",)),
)
RUNTIME_FILES = tuple(name for package in PACKAGES for name in package.files)
ON_DEMAND = {f"packages/{name}" for package in PACKAGES for name in package.on_demand}
SERVER_FILES = {
    "connection.js", "transport.js", "docs.css", "docs.html", "docs.js", "label.html", "label.js",
    "press.html", "press.js",
}  # fmt: skip
"""Of the page of `genie play`, those that need its server."""
WORLDS, SERVICE_WORKER = "worlds.json", "offline.js"


def export_site(
    worlds: Sequence[str | Path],
    out: str | Path,
    weights: Weights = "lossless",
    runtime: str | Path | None = None,
    *,
    progress: bool = True,
) -> Path:
    """Writes a site on which worlds are played in the browser's tab, without a server of ours.

    A plain file server or a static host is enough, and nothing is requested from elsewhere. After
    the first visit the site works without a network.

    Args:
        worlds: folders of worlds, ids on the Hugging Face Hub or names of bundled worlds.
        out: folder to write. An earlier site in it is replaced.
        weights: as of `export_onnx`.
        runtime: folder with the files of `PACKAGES`, for machines without npm. They come from npm's
            registry when left out.
        progress: show progress bars.

    Returns:
        The folder.

    Raises:
        UserError: there is no such world, two have the same name, the folder holds something else,
            or a package cannot be had.
    """
    out = Path(out).resolve()
    require(_is_free(out), f"{out}: holds something that is not a site; name another folder")
    require(len(worlds) > 0, "worlds: give at least one")
    for world in worlds:
        world_folder(world)  # before anything is written
    names = [name_of(world) for world in worlds]
    require(len(set(names)) == len(names), f"worlds: {', '.join(names)}, give each its own name")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        site = Path(temporary) / "site"
        site.mkdir(0o777)
        _copy_runtime(site / "packages", runtime)
        for world, name in zip(worlds, names, strict=True):
            export_onnx(world, site / "worlds" / name, weights, progress=progress)
        described = [_described(site, name) for name in names]
        (site / WORLDS).write_text(json.dumps(described, indent=2), encoding="utf-8")
        _copy_page(site)
        put(site, out)
    return out


def _is_free(out: Path) -> bool:
    if not out.is_dir():
        return not out.exists()
    ours = all((out / name).is_file() for name in (WORLDS, SERVICE_WORKER))
    return ours or not any(out.iterdir())


def _described(site: Path, name: str) -> dict[str, object]:
    """Returns what the page is told of a world, as `genie.serving.protocol.World` says."""
    folder, address = site / "worlds" / name, f"worlds/{quote(name)}"
    about = json.loads((folder / DESCRIPTION).read_text("utf-8"))
    prompts = sorted((folder / "prompts").glob("*.png"), key=lambda file: int(file.stem))
    return {
        "name": name,
        "address": f"{address}/",
        "height": about["height"],
        "width": about["width"],
        "fps": about["fps"],
        "num_actions": about["num_actions"],
        "prompts": [f"{address}/prompts/{file.name}" for file in prompts],
        "names": about["action_names"],
        "buttons": about["action_groups"],
        "real_actions": about["real_actions"],
        "can_name": False,
        "can_guide": "guided_step" in about["graphs"],
        "has_agent": False,
    }


def _copy_page(site: Path) -> None:
    static = resources.files("genie.serving") / "static"
    for file in static.iterdir():
        if file.name not in SERVER_FILES:
            (site / file.name).write_bytes(file.read_bytes())
    web = Path(str(resources.files("genie.export") / "web"))
    shutil.copytree(web, site, dirs_exist_ok=True)
    worker = (site / SERVICE_WORKER).read_text("utf-8")
    version, files = _digest(site), json.dumps(["./", *_page_files(site)])
    worker = worker.replace("${OWN}VERSION", "${OWN}" + version).replace("= FILES", f"= {files}")
    (site / SERVICE_WORKER).write_text(worker, "utf-8")


def _page_files(site: Path) -> list[str]:
    """Returns the files that every visit needs, without those of the worlds."""
    files = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    files -= {SERVICE_WORKER} | ON_DEMAND
    return sorted(file for file in files if not file.startswith("worlds/"))


def _digest(site: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path for path in site.rglob("*") if path.is_file()):
        digest.update(str(file.relative_to(site)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _copy_runtime(to: Path, folder: str | Path | None) -> None:
    to.mkdir()
    if folder is None:
        _fetch(to)
        return
    missing = [name for name in RUNTIME_FILES if not (Path(folder) / name).is_file()]
    require(not missing, f"runtime: {', '.join(missing)} not found in {folder}")
    for name in RUNTIME_FILES:
        shutil.copy(Path(folder) / name, to / name)


def _fetch(to: Path) -> None:
    """Copies the files of all packages, which npm fetches."""
    names = [package.name for package in PACKAGES]
    files = f"{', '.join(RUNTIME_FILES)} of {', '.join(names)}"
    advice = f"copy {files} to a folder and name it with --runtime"
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"npm is missing: install Node.js, or {advice}")
    with tempfile.TemporaryDirectory() as temporary:
        command = [npm, "pack", *names, "--pack-destination", temporary, "--loglevel=error"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["no answer"])[0]
            raise UserError(f"{', '.join(names)} could not be fetched ({why}): {advice}")
        for package in PACKAGES:
            archive = Path(temporary) / f"{package.name.replace('@', '-')}.tgz"
            unpacked = Path(temporary) / package.name
            shutil.unpack_archive(archive, unpacked, "gztar", filter="data")
            for name in package.files:
                shutil.copy(unpacked / "package" / package.folder / name, to / name)
