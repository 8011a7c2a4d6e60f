import json
import shutil
from dataclasses import replace

import pytest
from schedules import small_schedule

from genie.core.config import UserError
from genie.core.renamed_keys import with_old_keys
from genie.data.store import ClipStore
from genie.presets.schedule import Augmentation
from genie.training import config, finetune
from genie.training.config import RunConfig, resolve, share_minutes
from genie.training.finetune import START


def test_minutes_are_shared_in_proportion():
    train = small_schedule()
    train = replace(train, dynamics=replace(train.dynamics, steps=20))
    shared = share_minutes(train, ("tokenizer", "actions", "dynamics"), 8.0)
    stages = (shared.tokenizer, shared.actions, shared.dynamics)
    assert [stage.minutes for stage in stages] == [2.0, 2.0, 4.0]
    assert [stage.steps for stage in stages] == [0, 0, 0]
    again = share_minutes(shared, ("tokenizer", "actions", "dynamics"), 16.0)
    assert again.dynamics.minutes == 8.0


def test_only_the_stages_that_run_share_the_minutes():
    shared = share_minutes(small_schedule(), ("dynamics",), 3.0)
    assert (shared.dynamics.minutes, shared.tokenizer.minutes) == (3.0, 0.0)
    joint = share_minutes(replace(small_schedule(), joint=True), ("tokenizer", "actions"), 3.0)
    assert (joint.tokenizer.minutes, joint.actions.minutes) == (3.0, 0.0)


@pytest.fixture
def begun(store, small_world, tmp_path):
    config.write(tmp_path, resolve(tmp_path, store, world=small_world, train=small_schedule()))
    return tmp_path


def test_a_folder_remembers_what_it_is_for(begun, store, small_world):
    again = resolve(begun, store)
    assert again.world == replace(small_world, fps=store.fps)
    assert again.train == small_schedule()


def test_a_folder_that_was_begun_under_old_keys_goes_on(begun, store):
    recorded = config.read(begun)
    path = begun / config.RECORD
    values = json.loads(path.read_text())
    old = {"world": with_old_keys(recorded.world), "train": with_old_keys(recorded.train)}
    assert "no_effect" in old["world"]["dynamics"]
    assert "fresh_prompt_share" in old["train"]
    path.write_text(json.dumps(values | old))
    assert config.read(begun) == recorded
    assert resolve(begun, store) == recorded
    assert finetune.schedule_of(begun, config.RECORD).seed == recorded.train.seed


def test_budgets_and_reporting_may_change_but_not_what_a_step_computes(begun, store, small_world):
    free = small_schedule(log_every=1, workers=5, compile=True, checkpoint_minutes=1.0)
    free = replace(free, tokenizer=replace(free.tokenizer, steps=99))
    assert resolve(begun, store, train=free).train == free
    bound = replace(free, tokenizer=replace(free.tokenizer, learning_rate=0.5))
    with pytest.raises(UserError, match=r"train\.tokenizer\.learning_rate 0\.001 \(now 0\.5\)"):
        resolve(begun, store, train=bound)
    with pytest.raises(UserError, match=r"world\.num_actions 4 \(now 3\).*another folder"):
        resolve(begun, store, world=replace(small_world, num_actions=3))


def test_other_data_is_refused(begun, store):
    recorded = config.read(begun)
    config.write(begun, RunConfig(recorded.world, recorded.train, "other"))
    with pytest.raises(UserError, match="other data"):
        resolve(begun, store)


def test_a_damaged_record_is_named(begun, store):
    (begun / config.RECORD).write_text("{")
    with pytest.raises(UserError, match="not readable as JSON"):
        resolve(begun, store)
    (begun / config.RECORD).write_text('{"worlds": {}}')
    with pytest.raises(UserError, match="another version"):
        resolve(begun, store)


def test_frames_of_another_size_are_refused(store, tmp_path):
    with pytest.raises(UserError, match="prepare the videos with --height 64 --width 64"):
        resolve(tmp_path, store, preset="tiny")


def test_frames_beside_their_tokens_are_not_changed(store, small_world, tmp_path):
    world = replace(small_world, actions=replace(small_world.actions, continuous_fraction=0))
    schedule = small_schedule(joint=True, augmentation=Augmentation(flip_prob=0.5))
    with pytest.raises(UserError, match=r"train\.augmentation.*leave augmentation out"):
        resolve(tmp_path, store, world=world, train=schedule)


@pytest.mark.parametrize("file", ["notes.txt", "clips/a.mp4", "config.json"])
def test_a_folder_full_of_something_else_is_refused(store, small_world, tmp_path, file):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(UserError, match=rf"{path.relative_to(tmp_path).parts[0]}.*another --out"):
        resolve(tmp_path, store, world=small_world, train=small_schedule())


def test_many_strange_things_are_counted_and_a_file_is_no_folder(store, small_world, tmp_path):
    for name in "edcba":
        (tmp_path / name).touch()
    options = {"world": small_world, "train": small_schedule()}
    with pytest.raises(UserError, match=r"\(a, b, c and 2 more\)"):
        resolve(tmp_path, store, **options)
    with pytest.raises(UserError, match="is a file; choose another --out"):
        resolve(tmp_path / "a", store, **options)


def test_its_own_store_and_a_log_may_lie_in_the_folder_of_a_run(store, small_world, tmp_path):
    shutil.copytree(store.path, tmp_path / "run" / "data" / "clips")
    for name in ("train.log", ".gitkeep"):
        (tmp_path / "run" / name).touch()
    (tmp_path / "run" / START).mkdir()
    inside = ClipStore.open(tmp_path / "run" / "data" / "clips")
    options = {"world": small_world, "train": small_schedule()}
    assert resolve(tmp_path / "run", inside, **options).train == small_schedule()
    with pytest.raises(UserError, match=r"\(data\)"):
        resolve(tmp_path / "run", store, **options)
