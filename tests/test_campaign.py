"""The reliability campaign in short: a few trials, that it goes on, and its picture of a disk."""

import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from campaign.hashes import hashed
from campaign.powercut import Disk

ROOT = Path(__file__).parent.parent


def run(folder, trials):
    """Runs trials of the attack on small files; returns what was printed of each."""
    options = ["--run", folder, "--only", "files", "--trials", str(trials)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    command = [sys.executable, "-m", "campaign", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler"
)
def test_a_few_trials_hold_and_a_stopped_campaign_goes_on(tmp_path):
    first = run(tmp_path, 6)
    assert len(first) == 7
    assert first[-1] == "files: 6 of 6 held"
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["trial"] for line in lines] == list(range(6))
    (tmp_path / "results.jsonl").write_text("\n".join([*lines[:5], lines[5][:20]]))
    again = run(tmp_path, 6)
    assert len(again) == 2
    assert again[0].startswith("files 5: held, ")


def after(log, rows, contents=(), seed=0):
    """What is left of an empty disk after operations in its folder `/d`."""
    log.mkdir()
    for number, content in enumerate(contents, 1):
        (log / str(number)).write_bytes(content)
    lines = ["\t".join(map(str, (*row, *[""] * (5 - len(row))))) + "\n" for row in rows]
    (log / "operations").write_text("".join(lines))
    disk = Disk({"/d": ""}).after(log, random.Random(seed))
    return {name: disk.contents.get(node, b"") for name, node in disk.names.items() if node}


WRITTEN = [("create", 7, 0, "/d/.x"), ("sync", 7, 1, "/d/.x"), ("rename", 7, 1, "/d/.x", "/d/x")]


def test_what_was_synced_survives_a_power_cut(tmp_path):
    rows = [*WRITTEN, ("sync-folder", 1, 1, "/d"), ("unlink", 0, 1, "/d/x")]
    found = [after(tmp_path / str(seed), rows, [b"new"], seed) for seed in range(9)]
    assert {tuple(files.items()) for files in found} == {(("/d/x", b"new"),), ()}


def test_a_file_that_was_not_synced_is_empty(tmp_path):
    rows = [WRITTEN[0], WRITTEN[2], ("sync-folder", 1, 0, "/d")]
    assert after(tmp_path / "log", rows) == {"/d/x": b""}


def test_a_number_that_is_used_again_is_another_file(tmp_path):
    rows = [
        *WRITTEN,
        ("unlink", 0, 1, "/d/x"),
        ("create", 7, 1, "/d/y"),
        ("sync-folder", 1, 1, "/d"),
    ]
    assert after(tmp_path / "log", rows, [b"of x"]) == {"/d/y": b""}


def test_a_rename_that_was_not_seen_is_found(tmp_path):
    rows = [WRITTEN[0], ("sync", 7, 1, "/d/x"), ("sync-folder", 1, 1, "/d")]
    assert after(tmp_path / "log", rows, [b"new"]) == {"/d/x": b"new"}


def write_wheel(folder, code):
    """Writes a wheel of one module."""
    about = "parcel-1.0.dist-info"
    files = {
        "parcel.py": code,
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(folder / "parcel-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(zipfile.ZipInfo(name), text)  # of 1980, so that hashes are the same


def test_a_package_that_was_exchanged_is_not_installed(tmp_path):
    here = ["--no-index", "--find-links", str(tmp_path), "--disable-pip-version-check"]
    write_wheel(tmp_path, "GOOD = 1")
    noted = tmp_path / "hashes.txt"
    noted.write_text(hashed(["parcel"], *here))
    command = [sys.executable, "-m", "pip", "install", "--require-hashes", *here, "-r", noted]
    command += ["--target", tmp_path / "installed"]
    write_wheel(tmp_path, "GOOD = 0")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "installed").exists()
    write_wheel(tmp_path, "GOOD = 1")
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "installed" / "parcel.py").read_text() == "GOOD = 1"
