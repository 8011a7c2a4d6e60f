"""Collects the wheels that a bare machine with a GPU lacks, small enough to be sent with the tree.

Such a machine has Python 3.12, torch and much else, but no network. What `import genie` and Procgen
need beside that is downloaded here, and two large wheels are made small: libraries that are never
called become stubs, and files are compressed with LZMA. Needs gcc, strip and readelf.

python benchmarks/gpu_wheels.py .whl
# there: python3 -m pip install -q --no-index --no-deps --no-compile --target /tmp/site .whl/*.whl
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PURE = (
    "gymnasium==1.4.0", "farama-notifications==0.0.6", "jsonargparse==4.53.0",
    "docstring-parser==0.18.0", "typeshed-client==2.14.0", "vector-quantize-pytorch==1.32.0",
    "einx==0.4.3", "frozendict==2.5.1", "torch-einops-utils==0.2.0", "gym3==0.3.3",
    "gym-notices==0.1.0", "cffi==1.17.1", "pycparser==3.12", "loguru==0.7.3",
)  # fmt: skip
"""Wheels that are taken as they are."""

VIDEO = "av==18.1.0"
GAMES = "procgen2==0.10.7"
OLD_GYM = "gym==0.26.2"
"""Comes as source only."""

PLATFORMS = [f"manylinux_2_{n}_x86_64" for n in (5, 17, 24, 27, 28, 31, 34, 35)] + [
    f"manylinux{year}_x86_64" for year in (1, 2010, 2014)
]

VIDEO_STUBS = (
    "libSvtAv1Enc", "libx265", "libasound", "libgnutls", "libvpl", "libopencore-amrwb",
    "libopencore-amrnb", "libmp3lame", "libopus", "libdrm", "libxcb", "libxcb-shm",
    "libxcb-shape", "libxcb-xfixes",
)  # fmt: skip
"""Encoders, sound, screens and networks; H.264, VP9, AV1 and WebP can still be read."""

VIDEO_DROPPED = ("libunistring", "libhogweed", "libnettle", "libgmp", "libXau")
"""What only the stubs above needed."""

GAMES_STUBS = ("libicudata", "libsystemd", "libharfbuzz")
"""Text and logging: Procgen draws pictures only."""

GAMES_DROPPED = (
    "libfreetype", "libgcrypt", "libdw", "libpcre", "libgraphite2", "liblzma", "libselinux",
    "libelf", "libbz2", "liblz4", "libcap", "libattr", "libgpg-error",
)  # fmt: skip

GAMES_ABSENT = ("libGL.so.1", "libglib-2.0.so.0", "libgthread-2.0.so.0")
"""What the wheel expects of a machine, and a bare one may lack; nothing there is called."""


def run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def download(package: str, folder: Path, version: str = "3.12") -> Path:
    """Fetches one wheel for x86-64 Linux, without what it needs."""
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    before = set(folder.glob("*.whl"))
    options = ["--no-deps", "--only-binary=:all:", "--implementation", "cp"]
    run(
        sys.executable, "-m", "pip", "download", "-q", *options, "--python-version", version,
        *platforms, "-d", folder, package,
    )  # fmt: skip
    return (set(folder.glob("*.whl")) - before).pop()


def symbols(library: Path, defined: bool) -> dict[str, tuple[str, str, int]]:
    """Dynamic symbols that a library defines, or wants: kind, version and size by name."""
    found = {}
    for line in run("readelf", "--dyn-syms", "-W", library).splitlines():
        words = line.split()
        if len(words) < 8 or not words[0].rstrip(":").isdigit() or words[4] == "LOCAL":
            continue
        if (words[6] != "UND") == defined:
            name, _, version = words[7].partition("@")
            found[name] = (words[3], version.lstrip("@"), int(words[2], 0))
    return found


def soname(library: Path) -> str:
    found = re.search(r"SONAME.*\[(.*)\]", run("readelf", "-d", library))
    return found[1] if found else library.name


def stub(original: Path, target: Path, wanted: dict[str, str]) -> None:
    """Writes a library of the same name whose wanted functions do nothing and return zero."""
    has = {name: what for name, what in symbols(original, True).items() if name in wanted}
    code, versions = [".text"], {}
    for name, (kind, _, size) in sorted(has.items()):
        versions.setdefault(wanted[name], []).append(name)
        data = kind in ("OBJECT", "TLS")
        code += [f".globl {name}", f".type {name}, @{'object' if data else 'function'}"]
        code += (
            [".data", f"{name}: .zero {size or 8}", f".size {name}, {size or 8}", ".text"]
            if (data)
            else [f"{name}: xor %eax, %eax", "ret"]
        )
    code.append('.section .note.GNU-stack,"",@progbits')
    with tempfile.TemporaryDirectory() as folder:
        source, script = Path(folder) / "stub.s", Path(folder) / "versions"
        source.write_text("\n".join(code) + "\n")
        nodes = [
            f"{version} {{ global: {'; '.join(names)}; }};\n"
            for version, names in versions.items()
            if version
        ]
        script.write_text("".join(nodes))
        options = [f"-Wl,--version-script={script}"] if nodes else []
        name = soname(original)
        run("gcc", "-shared", "-nostdlib", f"-Wl,-soname,{name}", *options, source, "-o", target)


def stem(library: Path) -> str:
    """The plain name of a library in a wheel: `libx265` of `libx265-f5385bb8.so.216`."""
    return re.sub(r"(-[0-9a-f]{8})?\.so.*|-\d-[0-9a-f]{8}.*", "", library.name)


def shrink(
    folder: Path, stubs: tuple[str, ...], dropped: tuple[str, ...], more: list[Path]
) -> None:
    """Makes the libraries of an unpacked wheel small."""
    libraries = [path for path in folder.rglob("*.so*") if path.is_file()]
    kept = [path for path in libraries if stem(path) not in (*stubs, *dropped)]
    wanted = {name: what[1] for path in kept for name, what in symbols(path, False).items()}
    beside = next(folder.glob("*.libs"))
    for path in [p for p in libraries if stem(p) in stubs] + more:
        stub(path, beside / f"{path.name}.stub", wanted)
    for path in libraries:
        if path not in kept:
            path.unlink()
    for path in beside.glob("*.stub"):
        path.rename(path.with_suffix(""))
    for path in kept:
        run("strip", "--strip-unneeded", path)


def pack(folder: Path, name: str) -> Path:
    """Writes a wheel, compressed with LZMA, which pip reads; its record is made anew."""
    record = next(folder.glob("*.dist-info")) / "RECORD"
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != record)
    lines = []
    for path in files:
        digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest())
        place = path.relative_to(folder)
        lines.append(f"{place},sha256={digest.rstrip(b'=').decode()},{path.stat().st_size}")
    record.write_text("\n".join([*lines, f"{record.relative_to(folder)},,"]) + "\n")
    wheel = folder.parent / name
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_LZMA) as archive:
        for path in [*files, record]:
            archive.write(path, path.relative_to(folder))
    return wheel


def system_library(name: str) -> Path:
    found = re.search(rf"{re.escape(name)} .*x86-64.*=> (\S+)", run("/sbin/ldconfig", "-p"))
    if not found:
        raise SystemExit(f"{name} is needed here to know its functions: install it")
    return Path(found[1])


def small_video(work: Path) -> Path:
    """PyAV without the libraries that are never called."""
    wheel = download(VIDEO, work)
    folder = work / "video"
    zipfile.ZipFile(wheel).extractall(folder)
    shrink(folder, VIDEO_STUBS, VIDEO_DROPPED, [])
    shutil.move(wheel, work / "original.whl")
    return pack(folder, wheel.name)


def small_games(work: Path, backgrounds: bool) -> Path:
    """Procgen, whose library knows no Python, as a wheel for every Python 3."""
    wheel = download(GAMES, work, "3.11")
    folder = work / "games"
    zipfile.ZipFile(wheel).extractall(folder)
    shrink(folder, GAMES_STUBS, GAMES_DROPPED, [system_library(name) for name in GAMES_ABSENT])
    blank_backgrounds(folder / "procgen/data/assets", backgrounds)
    tags = next(folder.glob("*.dist-info")) / "WHEEL"
    tags.write_text(re.sub(r"cp311-cp311", "py3-none", tags.read_text()))
    return pack(folder, wheel.name.replace("cp311-cp311", "py3-none"))


def blank_backgrounds(assets: Path, keep: bool) -> None:
    """Leaves the backgrounds of CoinRun, or none: the others become black pictures."""
    from PIL import Image

    for folder in assets.glob("*_backgrounds*"):
        if keep and folder.name.startswith(("platform", "space")):
            continue
        for path in folder.glob("*.png"):
            with Image.open(path) as picture:
                size, mode = picture.size, picture.mode
            Image.new(mode, size).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="for the wheels")
    parser.add_argument(
        "--backgrounds", action="store_true", help="keep CoinRun's, 16 MB; else they are black"
    )
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for package in PURE:
        download(package, options.folder)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", OLD_GYM, "-w", options.folder)
    with tempfile.TemporaryDirectory() as folder:
        for wheel in (small_video(Path(folder)), small_games(Path(folder), options.backgrounds)):
            shutil.move(wheel, options.folder / wheel.name)
    wheels = sorted(options.folder.glob("*.whl"))
    for wheel in wheels:
        print(f"{wheel.stat().st_size:>10,}  {wheel.name}")
    print(f"{sum(wheel.stat().st_size for wheel in wheels):>10,}  in all")


if __name__ == "__main__":
    main()
