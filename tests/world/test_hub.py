import shutil
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from untrained import frames

from genie import ActionMapper, Genie, UserError
from genie.world import bundled
from genie.world.action_mapper import MapperConfig, latent_actions_hash
from genie.world.action_names import read_names, write_names
from genie.world.compress import compress
from genie.world.hub import world_folder
from genie.world.prompts import load_prompts, save_prompts
from genie.world.replay import world_hash
from genie.world.weight_files import size_of


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


class Hub:
    """A hub in a folder, in the place of `huggingface_hub.HfApi` and `snapshot_download`."""

    def __init__(self, root: Path):
        self.root = root

    def __call__(self, token: str | None = None) -> "Hub":
        return self

    def create_repo(self, repo_id: str, **_: object) -> None:
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)

    def upload_folder(self, repo_id: str, folder_path: str, delete_patterns: list[str]) -> str:
        for file in self.files(repo_id, delete_patterns):
            file.unlink()
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)
        (self.root / repo_id / ".gitattributes").write_text("of the hub")
        return f"https://hub/{repo_id}"

    def download(self, repo_id: str, allow_patterns: list[str]) -> str:
        cache = self.root / "cache" / repo_id
        for file in self.files(repo_id, allow_patterns):
            copy = cache / file.relative_to(self.root / repo_id)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
        return str(cache)

    def files(self, repo_id: str, patterns: list[str]) -> list[Path]:
        folder = self.root / repo_id
        return [
            file
            for file in folder.rglob("*")
            if file.is_file()
            and any(fnmatch(file.relative_to(folder).as_posix(), pattern) for pattern in patterns)
        ]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.download)
    return hub


def test_what_lies_beside_a_world_goes_to_the_hub_and_back(world: Genie, tmp_path: Path, hub: Hub):
    folder = tmp_path / "mine"
    world.save_pretrained(folder)
    save_prompts(frames(2).numpy(), folder)
    write_names(folder, ["left", "", "right", ""])
    shutil.copy(bundled.HERE / "coinrun-tiny" / "actions.json", folder)
    about = MapperConfig("network", ("left", "right"), 4, latent_actions_hash(world), 9)
    ActionMapper(about).save_pretrained(folder / "mapper")
    (folder / "train.json").write_text("{}")  # of the run, not of the world

    assert Genie.from_pretrained(folder, "cpu").push_to_hub("me/world") == "https://hub/me/world"
    found = Genie.from_pretrained("me/world", "cpu")
    assert found.folder == hub.root / "cache/me/world"
    there = {file.relative_to(found.folder).as_posix() for file in found.folder.rglob("*.*")}
    mapper = {"mapper/config.json", "mapper/model.safetensors"}
    beside = {"prompts/0.png", "prompts/1.png", "names.json", "actions.json"}
    assert there == {"config.json", "model.safetensors"} | beside | mapper
    assert read_names(found.folder, 4) == ["left", "", "right", ""]
    assert ActionMapper.from_pretrained("me/world", found).config == about


def test_given_prompts_take_the_place_of_those_in_the_folder(
    world: Genie, tmp_path: Path, hub: Hub
):
    folder = tmp_path / "mine"
    world.save_pretrained(folder)
    save_prompts(frames(3).numpy(), folder)
    mine = frames(1, seed=5).numpy()
    Genie.from_pretrained(folder, "cpu").push_to_hub("me/other", prompts=mine)
    found = load_prompts(None, 16, 16, world_folder("me/other"))
    np.testing.assert_array_equal(found, mine)
    world.push_to_hub("me/new")  # it was never in a folder
    assert not (hub.root / "me/new/prompts").exists()


def test_a_large_world_goes_to_the_hub_in_parts_and_a_small_one_replaces_it(
    world: Genie, tmp_path: Path, hub: Hub
):
    for size, several in ((10**9, False), ("100KB", True), (10**9, False)):
        world.push_to_hub("me/large", max_shard_size=size)
        names = {file.name for file in (hub.root / "me/large").glob("model*")}
        assert ("model.safetensors" in names) == (not several)
        assert ("model.safetensors.index.json" in names) == several
        if not several:
            continue
        assert sum("-of-" in name for name in names) == len(names) - 1 > 1
        assert world_hash(Genie.from_pretrained("me/large", "cpu")) == world_hash(world)
        small = compress("me/large", tmp_path / "small")
        assert (small / "model.safetensors").stat().st_size < 0.6 * size_of(
            world_folder("me/large")
        )
