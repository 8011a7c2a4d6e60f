from __future__ import annotations

import os

import pytest

from genie.core.config import UserError
from genie.data import local_copies, remote


@pytest.fixture(autouse=True)
def _own(monkeypatch, tmp_path):
    held = {}
    monkeypatch.setattr(local_copies, "_held", held)
    monkeypatch.setenv("GENIE_CACHE", str(tmp_path))
    yield
    for lock in held.values():
        os.close(lock)


def opened(name, size=0):
    folder = remote.local_folder(f"s3://bucket/{name}", b"{}")
    (folder / "derived").mkdir(exist_ok=True)
    (folder / "derived" / "tokens.npy").write_bytes(bytes(size))
    return folder


def forget(*folders):
    """As if the process that used them had ended, in the order of the folders."""
    for age, folder in enumerate(folders):
        os.close(local_copies._held.pop(folder))
        os.utime(folder.with_name(f"{folder.name}.lock"), (age, age))


def test_stores_used_longest_ago_are_removed(monkeypatch):
    old, middle, new = folders = [opened(name, 1000) for name in ("old", "middle", "new")]
    forget(middle, old, new)
    monkeypatch.setenv("GENIE_CACHE_LIMIT", "2.5 kB")
    opened("other")
    assert [folder.exists() for folder in folders] == [True, False, True]
    monkeypatch.setenv("GENIE_CACHE_LIMIT", "0")
    now = opened("now")
    assert not old.exists()
    assert not new.exists()
    assert now.exists()


def test_a_store_that_is_used_stays(monkeypatch):
    used = opened("used", 1000)
    monkeypatch.setenv("GENIE_CACHE_LIMIT", "0")
    opened("other")
    assert (used / "derived" / "tokens.npy").exists()


def test_without_a_limit_or_locks_all_stay(monkeypatch):
    old = opened("old", 1000)
    forget(old)
    opened("other")
    assert old.exists()
    monkeypatch.setattr(local_copies, "_lock", lambda *_, **__: False)
    monkeypatch.setenv("GENIE_CACHE_LIMIT", "0")
    opened("third")
    assert old.exists()


@pytest.mark.parametrize("text", ["many", "-1", "5XB", "1e9"])
def test_what_is_no_size_is_a_sentence(monkeypatch, text):
    monkeypatch.setenv("GENIE_CACHE_LIMIT", text)
    with pytest.raises(UserError, match="GENIE_CACHE_LIMIT: expected a size such as 50GB"):
        local_copies.limit()
