import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import torch
from safetensors.torch import load_file
from schedules import STAGES, finished_schedule, small_schedule

from genie.core.config import UserError
from genie.data.store import ClipStore, Episode, write_table, zarr_spec
from genie.models.quantizers.fsq import FSQConfig
from genie.models.tokenizers.registry import BACKBONES
from genie.training import config as settings
from genie.training.finetune import (
    START,
    BaseWorld,
    check_fits,
    finetune_schedule,
    open_base_world,
    starting_world,
    with_larger_vocabularies,
)
from genie.training.module import StageModule, step_seed
from genie.training.pipeline import train
from genie.training.previews import held_out_clips
from genie.world.genie import Genie
from small import save_world

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def base(finished, tmp_path_factory):
    return shutil.copytree(finished, tmp_path_factory.mktemp("base") / "run")


def written(folder, frames, fps=10):
    """A store of one video to train on."""
    t, h, w, _ = frames.shape
    array = tensorstore.open(zarr_spec(folder / "frames", h, w), create=True, shape=[t, h, w, 3])
    array.result().write(frames).result()
    episodes = [Episode(0, "0", "train", 0, t, "0")]
    write_table(folder, height=h, width=w, fps=fps, episodes=episodes, prepared={})
    return ClipStore.open(folder)


@pytest.mark.parametrize("most", [10**9, 8_000])
def test_weights_of_100_gb_are_refused_before_they_are_hashed(tmp_path, most):
    save_world(tmp_path)
    Genie.from_pretrained(tmp_path).save_pretrained(tmp_path, max_shard_size=most)
    assert len(open_base_world(str(tmp_path), True).weights) == 12
    with max(tmp_path.glob("model*.safetensors")).open("ab") as file:
        file.truncate(100 * 2**30)  # takes no room
    with pytest.raises(UserError, match=r"safetensors: cut short or damaged"):
        open_base_world(str(tmp_path), True)


def only(**steps):
    """A schedule in which stages that are not named are left out."""
    train = small_schedule(log_every=1)
    stages = {name: replace(getattr(train, name), steps=steps.get(name, 0)) for name in STAGES}
    return replace(train, **stages)


def wider(config, *, actions=0, codes=0):
    quantizer = config.tokenizer.quantizer
    tokenizer = replace(
        config.tokenizer, quantizer=replace(quantizer, codes=quantizer.codes + codes)
    )
    return replace(config, num_actions=config.num_actions + actions, tokenizer=tokenizer)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("name", STAGES)
def test_the_first_loss_is_that_of_the_world(base, store, console, tmp_path, monkeypatch, name):
    seen = []
    step = StageModule.training_step

    def spying(module, batch, index):
        loss = step(module, batch, index)
        seen.append((module.step, index, batch, loss.detach()))
        return loss

    monkeypatch.setattr(StageModule, "training_step", spying)
    train(
        store,
        tmp_path / "run",
        base=base,
        keep_actions=name != "actions",
        train=only(**{name: 1}),
        console=console,
    )
    world = Genie.from_pretrained(base, device="cpu")
    model = getattr(world, name).train()
    if name == "actions":
        model.quantizer.placed.fill_(False)
    (at, part, batch, loss), *_ = seen
    torch.manual_seed(step_seed(0, name, at, part))
    assert loss == pytest.approx(float(model.loss(*batch, progress=0.0)[0].detach()), rel=1e-6)


def test_it_learns_new_data_and_keeps_the_configuration(base, store, console, tmp_path):
    unseen = 255 - store.read(0, 40)
    dark = written(tmp_path / "dark", np.concatenate([unseen, unseen]), store.fps)
    clips = held_out_clips(dark, 4)
    before = Genie.from_pretrained(base, device="cpu")
    schedule = only(tokenizer=40)
    out = train(dark, tmp_path / "run", base=base, train=schedule, console=console)
    after = Genie.from_pretrained(out, device="cpu")
    assert after.config == before.config
    losses = [float(world.tokenizer.loss(clips)[0].detach()) for world in (before, after)]
    assert losses[1] < 0.7 * losses[0]


def test_stages_without_a_budget_keep_their_weights(base, store, console, tmp_path):
    out = train(store, tmp_path / "a", base=base, train=only(dynamics=3), console=console)
    before, after = (Genie.from_pretrained(folder, device="cpu") for folder in (base, out))
    assert same(after.tokenizer.state_dict(), before.tokenizer.state_dict())
    assert same(after.actions.state_dict(), before.actions.state_dict())
    assert not same(after.dynamics.state_dict(), before.dynamics.state_dict())
    assert [path.name for path in (out / "checkpoints").glob("*.ckpt")] == ["dynamics.ckpt"]


def test_actions_are_kept_unless_they_are_to_be_learned_anew(base, store, console, tmp_path):
    schedule = only(actions=10, dynamics=2)
    kept = train(store, tmp_path / "kept", base=base, train=schedule, console=console)
    anew = train(
        store, tmp_path / "new", base=base, keep_actions=False, train=schedule, console=console
    )
    old, kept, anew = (
        Genie.from_pretrained(folder, device="cpu").actions for folder in (base, kept, anew)
    )
    assert same(kept.state_dict(), old.state_dict())
    assert not torch.equal(anew.quantizer.codebook, old.quantizer.codebook)
    assert anew.quantizer.placed


def test_a_wider_world_does_what_it_did(base, store):
    old = Genie.from_pretrained(base, device="cpu")
    new = with_larger_vocabularies(old, wider(old.config, actions=3, codes=16))
    clips = held_out_clips(store, 6)
    tokens, actions = old.tokenizer.encode(clips), old.actions.infer(clips)
    assert torch.equal(new.tokenizer.encode(clips), tokens)
    assert torch.equal(new.actions.infer(clips), actions)
    assert torch.equal(new.tokenizer.decode(tokens), old.tokenizer.decode(tokens))
    hidden = tokens.clone()
    hidden[:, -1] = old.dynamics.mask_token
    before = old.dynamics.logits(hidden, actions)
    hidden[:, -1] = new.dynamics.mask_token
    after = new.dynamics.logits(hidden, actions)
    torch.testing.assert_close(after[..., :32], before)
    # New tokens are unlikely, so a frame is drawn from the old ones nearly always.
    assert after.softmax(dim=-1)[..., 32:].sum(dim=-1).max() < 0.5
    known, more = (one.dynamics.embedding.action.weight for one in (old, new))
    assert torch.equal(more[:4], known[:4])
    assert torch.equal(more[-1], known[-1])
    assert more[4:7].std(dim=0).min() > 0


def test_new_codes_come_into_use_when_the_tokenizer_trains(base, store):
    old = Genie.from_pretrained(base, device="cpu")
    tokenizer = with_larger_vocabularies(old, wider(old.config, codes=16)).tokenizer.train()
    clips = held_out_clips(store, 6)
    tokenizer.loss(clips)
    assert tokenizer.quantizer.codebook.abs().max() < 5
    assert tokenizer.eval().encode(clips).max() >= 32


def test_added_actions_leave_the_kept_ones_alone(base, store):
    old = Genie.from_pretrained(base, device="cpu")
    config = wider(old.config, actions=4)
    with torch.no_grad():  # the old codes say little, so that there is something to add
        old.actions.quantizer.codebook[1:] = old.actions.quantizer.codebook[0] + 0.01
    folder = base.parent / "narrow"
    old.save_pretrained(folder)
    new = starting_world(BaseWorld(str(folder)), config, store, 4).actions
    assert torch.equal(new.quantizer.codebook[:4], old.actions.quantizer.codebook)
    clips = held_out_clips(store, 6)
    inferred = new.infer(clips)
    assert (inferred >= 4).any()
    latents = new.latents(clips)
    errors = [
        (latents - quantizer.decode(model.infer(clips))).square().mean()
        for model in (old.actions, new)
        for quantizer in (model.quantizer,)
    ]
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.long
def test_a_killed_run_goes_on(base, store, processes, tmp_path):
    base = shutil.copytree(base, tmp_path / "base")
    common = (None, only(tokenizer=8, dynamics=4), STAGES)
    assert processes(store.path, tmp_path / "whole", *common, None, base) == 0
    assert processes(store.path, tmp_path / "killed", *common, 4.5, base) == -9
    (base / WEIGHTS).write_bytes(b"")  # the run has what it needs
    assert processes(store.path, tmp_path / "killed", *common, None, base) == 0
    whole, killed = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "killed"))
    assert same(whole, killed)
    record = json.loads((tmp_path / "killed" / settings.RECORD).read_text())["base"]
    assert record["name"] == str(base)
    assert len(record["weights"]) == 12
    assert (tmp_path / "killed" / START / WEIGHTS).exists()


def test_where_nothing_or_half_would_be_trained_it_is_refused(base, store, console, tmp_path):
    options = {"base": base, "console": console}
    with pytest.raises(UserError, match="nothing is left to train"):
        train(store, tmp_path / "a", stages=["actions"], **options)
    with pytest.raises(UserError, match="their stage has not run"):
        train(store, tmp_path / "b", train=only(dynamics=1), keep_actions=False, **options)


def test_the_same_command_goes_on_without_the_base(base, store, console, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = Path(shutil.copytree(base, tmp_path / "base"))
    options = {"train": only(dynamics=1), "console": console, "preset": "tiny"}
    options["world"] = Genie.from_pretrained(base, device="cpu").config
    out = train(store, tmp_path / "run", base=f"{base.name}/", **options)
    shutil.move(base, base.with_name("elsewhere"))
    assert train(store, out, base=base.name, **options) == out


def test_joint_training_goes_on_from_a_world(base, store, console, tmp_path):
    world = Genie.from_pretrained(base, device="cpu").config
    world = replace(world, actions=replace(world.actions, continuous_fraction=0))
    options = {"base": base, "world": world, "console": console}
    schedule = replace(only(tokenizer=1, dynamics=2), joint=True)
    with pytest.raises(UserError, match="--keep_actions false"):
        train(store, tmp_path / "run", train=schedule, **options)
    out = train(store, tmp_path / "run", train=schedule, keep_actions=False, **options)
    after, before = (Genie.from_pretrained(folder, device="cpu").actions for folder in (out, base))
    assert not same(after.state_dict(), before.state_dict())


def test_the_schedule_is_the_runs_own_with_lower_rates(base, store, tmp_path):
    chosen = settings.resolve(tmp_path, store, base=str(base))
    own = finished_schedule()
    assert chosen.train == replace(finetune_schedule(own), accelerator="auto")
    assert chosen.train.tokenizer.learning_rate == own.tokenizer.learning_rate / 4
    assert settings.resolve(tmp_path, store, base=str(base), minutes=6).train.actions.minutes == 0
    settings.write(tmp_path, chosen)
    again = settings.defaults(None, str(shutil.copytree(base, tmp_path / "b")))
    assert again.train == chosen.train
    shutil.copy(tmp_path / settings.RECORD, tmp_path / "b" / settings.RECORD)
    assert settings.defaults(None, str(tmp_path / "b")).train == chosen.train  # not lower again


def test_a_base_that_does_not_fit_is_refused(base, store, console, tmp_path):
    world = Genie.from_pretrained(base, device="cpu").config

    def refuses(message, **options):
        with pytest.raises(UserError, match=message):
            train(store, tmp_path / "run", **{"base": base, "console": console} | options)
        assert not (tmp_path / "run").exists()

    refuses(r"num_actions: 3.*take 4 or more", world=replace(world, num_actions=3))
    layers = replace(world.dynamics, layers=2)
    refuses(r"dynamics\.layers: 2, but.* has 1", world=replace(world, dynamics=layers))
    refuses(r"genie prepare.*--height 16 --width 16", world=replace(world, height=32))
    refuses("tokenizer has trained", world=wider(world, codes=8), train=only(dynamics=1))
    refuses("no such", base=tmp_path / "nowhere")
    refuses("add --from", base=None, keep_actions=True)
    (tmp_path / "empty").mkdir()
    refuses("not a finished world", base=tmp_path / "empty")
    older = shutil.copytree(base, tmp_path / "older")
    values = json.loads((older / "config.json").read_text())
    (older / "config.json").write_text(json.dumps(values | {"version": 0}))
    refuses("version 0", base=older)
    (base / settings.RECORD).replace(tmp_path / "kept.json")
    (base / settings.RECORD).write_text("{}")
    refuses("name one with --preset", base=base)
    (tmp_path / "kept.json").replace(base / settings.RECORD)
    with pytest.raises(UserError, match="train into another folder"):
        train(store, base, base=base, console=console)
    with pytest.raises(UserError, match="both are 0; only with --from"):
        train(store, tmp_path / "run", world=world, train=only(dynamics=1), console=console)


def test_frames_of_another_size_and_no_codes_to_keep_are_refused(base, console, tmp_path):
    store = written(tmp_path / "large", np.zeros((20, 24, 24, 3), np.uint8))
    with pytest.raises(UserError, match=r"another store: genie prepare .* --height 16 --width 16"):
        train(store, tmp_path / "run", base=base, console=console)
    world = Genie.from_pretrained(base, device="cpu")
    world.actions.quantizer.placed.fill_(False)
    world.save_pretrained(tmp_path / "unplaced")
    store = written(tmp_path / "small", np.zeros((20, 16, 16, 3), np.uint8))
    with pytest.raises(UserError, match=r"no codes to keep.*--keep_actions false"):
        train(store, tmp_path / "run", base=tmp_path / "unplaced", preset="tiny", console=console)


def test_a_grid_of_codes_cannot_grow(base, small_world):
    fsq = replace(small_world.tokenizer, quantizer=FSQConfig(codes=64))
    more = replace(small_world.tokenizer, quantizer=FSQConfig(codes=240))
    old, new = (replace(small_world, tokenizer=tokenizer) for tokenizer in (fsq, more))
    with pytest.raises(UserError, match=r"grid.*keep 64, or train a new world"):
        check_fits("w", old, new)


def test_bits_of_actions_cannot_grow(small_world):
    bits = replace(small_world.actions, continuous_fraction=0.0, lfq_codebooks=1)
    old = replace(small_world, actions=bits)
    with pytest.raises(UserError, match=r"num_actions: the actions of LFQ are bits.*keep 4"):
        check_fits("w", old, replace(old, num_actions=8))
    check_fits("w", old, old)


@pytest.mark.parametrize("kind", [*BACKBONES][1:])
def test_weights_of_a_backbone_fit_no_other(small_world, kind):
    other = replace(small_world, tokenizer=BACKBONES[kind]())
    for old, new in ((small_world, other), (other, small_world)):
        backbone = new.tokenizer.backbone
        with pytest.raises(UserError, match=f"tokenizer.backbone: '{backbone}', but the world w"):
            check_fits("w", old, new)
    weighted = replace(other, tokenizer=replace(other.tokenizer, motion_weight=5.0))
    check_fits("w", other, weighted)


def test_a_run_begun_otherwise_is_refused(base, store, console, tmp_path):
    plain = settings.resolve(tmp_path, store, preset=None, base=str(base))
    settings.write(tmp_path, replace(plain, base=None))
    with pytest.raises(UserError, match="begun from a new world"):
        settings.resolve(tmp_path, store, base=str(base))
    settings.write(tmp_path, plain)
    assert settings.resolve(tmp_path, store).base == plain.base
    with pytest.raises(UserError, match="begun from the world"):
        settings.resolve(tmp_path, store, base="other")
    with pytest.raises(UserError, match="begun with true"):
        settings.resolve(tmp_path, store, keep_actions=False)
