import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from PIL import Image

from genie.core.config import UserError
from genie.evaluation.config import CoherenceConfig, EvaluationConfig, SeparationConfig
from genie.evaluation.evaluate import evaluate, write_page_again
from genie.world import bundled

pytestmark = pytest.mark.usefixtures("short_detector")
TINY = replace(
    EvaluationConfig.quick(),
    clips=8,
    horizon=5,
    batch=5,
    closed_loop_games=8,
    action_selection_games=4,
    closed_loop_steps=4,
    action_prompts=1,
    separation=SeparationConfig(states=2, permutations=99),
    coherence=CoherenceConfig(rollouts=((4, 32),), real_frames=400),
)


def small(**changes):
    """Settings for a report in a second; without the inverse-dynamics network, which learns."""
    return {"config": replace(TINY, **({"inverse_dynamics_steps": 0} | changes)), "progress": False}


class Checker(HTMLParser):
    """Refuses tags that are not closed in order, and remembers every address."""

    VOID = frozenset({"meta", "img"})

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.tags = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_page(path):
    page = Checker()
    text = path.read_text("utf-8")
    page.feed(text)
    assert text.startswith("<!DOCTYPE html>")
    assert page.open == []
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert not re.search(r"url\(|@import|https?://", text)
    return page


def test_the_report_of_a_world_that_obeys(game, game_world, tmp_path):
    store = game.store(action_names=["stay", "right", "left", "down"])
    settings = small(inverse_dynamics_steps=80, action_prompts=3)
    found = evaluate(game_world(), store, tmp_path, **settings)
    assert json.loads((tmp_path / "report.json").read_text()) == found
    assert found["clips"] == 8
    assert found["supervised"]["share_of_true_entropy"] == pytest.approx(1)
    assert found["supervised"]["true_actions"] == ["stay", "right", "left", "down"]
    assert found["supervised"]["action_maps"][0]["labels"] == 50
    assert found["supervised"]["action_maps"][0]["accuracy"] > 0.95
    assert found["supervised"]["action_maps"][0]["most_common"] < 0.5
    assert found["supervised"]["share_of_ceiling"]["raw"] > 0.95
    assert found["supervised"]["inverse_dynamics"]["groups"] == [
        ["stay"],
        ["right"],
        ["left"],
        ["down"],
    ]
    assert found["action_following"]["inferred"]["macro_f1"] > 0.95
    assert found["closed_loop"]["mean"]["share"] > 0.95
    assert found["closed_loop"]["actions"]["down"]["action"] == 3
    assert found["rollouts"]["at"]["4"]["delta_psnr"]["low"] > 0
    assert {line["verdict"] for line in found["headlines"]} == {"good"}
    assert found["notes"] == ["Rollouts end at t = 5; t = 8, 16, 64 left out."]
    page = check_page(tmp_path / "report.html")
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == [
        "actions_1.png", "actions_2.png", "actions_3.png",
        "clip_1.png", "clip_2.png", "clip_3.png", "coherence_32.png", "play.gif",
    ]  # fmt: skip
    assert page.tags.count("img") == len(names)
    with Image.open(tmp_path / "pictures" / "play.gif") as animation:
        assert animation.n_frames >= 2


def test_a_page_can_be_written_again(game, game_world, tmp_path):
    evaluate(game_world(), game.store(), tmp_path, **small())
    page = (tmp_path / "report.html").read_bytes()
    (tmp_path / "report.html").unlink()
    assert write_page_again(tmp_path / "report.json") == tmp_path / "report.html"
    assert (tmp_path / "report.html").read_bytes() == page
    other = write_page_again(str(tmp_path / "report.json"), tmp_path / "a" / "page.html")
    assert other.read_bytes() == page


def test_the_page_of_the_bundled_world_is_written_without_its_images(tmp_path):
    report = bundled.folder_of(bundled.DEFAULT) / "report.json"
    assert "img" not in check_page(write_page_again(report, tmp_path / "page.html")).tags


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no such report"),
        ("{", "not a report"),
        ("[]", "not a report of this version"),
        ('{"version": 1}', "measure the world again"),
    ],
)
def test_what_is_no_report_has_no_page(text, said, tmp_path):
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    with pytest.raises(UserError, match=said):
        write_page_again(tmp_path / "report.json")
    assert not (tmp_path / "report.html").exists()


def test_the_report_of_a_world_that_does_not(game, game_world, tmp_path):
    world = game_world(obeys=False, noise=True)
    found = evaluate(world, game.store(), tmp_path, **small())
    verdicts = {line["name"].split(",")[0]: line["verdict"] for line in found["headlines"]}
    assert verdicts["Control"] == "poor"
    assert verdicts["Held actions"] == "poor"
    assert found["held_actions"]["ratio"] == pytest.approx(1, abs=0.2)


MOMENTS = ("seconds", "date")
"""The keys of a report that tell two equal evaluations apart."""


def test_the_same_seed_gives_the_same_files(game, game_world, tmp_path):
    folders = tmp_path / "first", tmp_path / "again"
    for folder in folders:
        evaluate(game_world(noise=True), game.store(), folder, **small())
    first, again = (json.loads((folder / "report.json").read_text("utf-8")) for folder in folders)
    again |= {key: first[key] for key in MOMENTS}
    assert first == again
    text = json.dumps(again, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    (folders[1] / "report.json").write_text(text, "utf-8")
    for folder in folders:
        write_page_again(folder / "report.json")
    files = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in folders
    ]
    assert len(files[0]) > 3
    assert files[0] == files[1]


def test_a_store_without_labels_and_with_too_few_clips(game, game_world, tmp_path):
    store = game.store(labelled=False, episodes=2)
    found = evaluate(game_world(), store, tmp_path, **small(clips=50, horizon=16))
    for part in ("supervised", "action_following", "closed_loop"):
        assert "without files of true actions" in found[part]["skipped"]
    assert found["clips"] == 2
    assert "50 clips were asked for" in found["notes"][0]
    assert "true actions" in (tmp_path / "report.html").read_text()
    page = unescape((tmp_path / "report.html").read_text("utf-8"))
    assert all(note in page for note in found["notes"])
    check_page(tmp_path / "report.html")


def test_what_needs_the_network_is_left_out_with_a_note(game, game_world, tmp_path):
    found = evaluate(game_world(), game.store(), tmp_path, **small())
    assert "inverse_dynamics_steps: 0" in found["closed_loop"]["skipped"]
    assert any("inverse_dynamics_steps: 0" in note for note in found["notes"])
    check_page(tmp_path / "report.html")


def test_one_clip_has_no_interval_but_a_report(game, game_world, tmp_path):
    found = evaluate(game_world(), game.store(), tmp_path, **small(clips=1))
    assert found["rollouts"]["at"]["4"]["delta_psnr"]["stderr"] is None
    check_page(tmp_path / "report.html")


def test_frames_that_never_change(game, game_world, tmp_path):
    store = game.store()
    store.frames[:] = store.frames[0]
    found = evaluate(game_world(), store, tmp_path, **small())
    assert found["tokenizer"]["copy_last_frame"]["psnr_moving"] is None
    check_page(tmp_path / "report.html")


def test_another_frame_rate_is_noted(game, game_world, tmp_path):
    store = game.store()
    store.fps = 30.0
    assert "30 frames per second" in " ".join(
        evaluate(game_world(), store, tmp_path, **small())["notes"]
    )


def test_another_frame_size_is_refused_with_the_command(game, tmp_path):
    store = SimpleNamespace(height=32, width=48, path="data/other")
    with pytest.raises(UserError, match=r"genie prepare .* --height 16 --width 16"):
        evaluate(game.world(), store, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_world_is_left_as_it_was(game, game_world, tmp_path):
    world = game_world().train()
    world.tokenizer.eval()
    evaluate(world, game.store(), tmp_path, **small())
    assert world.training
    assert not world.tokenizer.training


def test_a_real_world_from_its_folder(real_world, real_store, tmp_path):
    real_world.save_pretrained(tmp_path / "world")
    found = evaluate(
        tmp_path / "world",
        real_store.path,
        tmp_path / "out",
        device="cpu",
        **small(clips=4),
    )
    assert found["world"]["name"] == "world"
    assert found["world"]["parameters"]["total"] == sum(p.numel() for p in real_world.parameters())
    assert found["data"] == {
        "name": "game", "split": "val", "fps": 15.0, "episodes": 4, "frames": 80,
    }  # fmt: skip
    assert found["settings"]["sampling"]["steps"] == 2
    assert found["dynamics"]["inferred"]["cross_entropy"] > 0
    assert "without files of true actions" in found["supervised"]["skipped"]
    check_page(tmp_path / "out" / "report.html")


def test_a_real_world_measured_twice(real_world, real_store, tmp_path):
    settings = small(clips=3, horizon=3, prompt_frames=2)
    runs = [evaluate(real_world, real_store, tmp_path, **settings) for _ in range(2)]
    assert runs[0]["rollouts"] == runs[1]["rollouts"]
    assert runs[0]["dynamics"] == runs[1]["dynamics"]
    assert runs[0]["held_actions"] == runs[1]["held_actions"]


def test_another_protocol_has_its_own_report(game, game_world, tmp_path):
    config = replace(TINY, clips=4)
    found = evaluate(
        game_world(), game.store(), tmp_path, protocol="genieredux", config=config, progress=False
    )
    assert found["settings"]["protocol"] == "genieredux"
    assert (found["genieredux"]["clips"], found["genieredux"]["frames"]) == (4, 16)
    assert "rollouts" not in found
    check_page(tmp_path / "report.html")
    assert "25.51" in (tmp_path / "report.html").read_text()
    assert "GenieRedux" in (tmp_path / "report.md").read_text()


def test_a_protocol_keeps_its_settings(game, game_world, tmp_path):
    with pytest.raises(UserError, match="horizon: the protocol genieredux has 15"):
        evaluate(game_world(), game.store(), tmp_path, protocol="genieredux", horizon=8)
