from pathlib import Path

import pytest

from genie import Genie, UserError
from genie.world import bundled
from genie.world.hub import world_folder


def test_a_hub_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    def offline(*_: object, **__: object) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(UserError, match="check the name or your connection"):
        Genie.from_pretrained("someone/world")


def test_a_folder_from_the_hub_is_read(
    world: Genie, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    world.save_pretrained(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    assert Genie.from_pretrained("me/world", device="cpu").config == world.config


def test_a_bundled_world_is_found_by_name_and_not_hidden_by_an_empty_folder(
    world: Genie, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("genie.world.bundled.HERE", tmp_path / "bundle")
    world.save_pretrained(tmp_path / "bundle" / "toy")
    (tmp_path / "cwd" / "toy").mkdir(parents=True)  # a report of it may have made one
    monkeypatch.chdir(tmp_path / "cwd")
    assert bundled.names() == ["toy"]
    assert world_folder("toy") == tmp_path / "bundle" / "toy"
    Genie(world.config).save_pretrained("toy")  # a world of one's own goes first
    assert world_folder("toy") == Path("toy")
