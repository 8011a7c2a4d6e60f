import math

import pytest
import torch

from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.action_alignment import action_maps
from genie.evaluation.metrics.context import Skipped
from genie.evaluation.metrics.supervised import (
    SUPERVISED,
    chance_figures,
    compare_with_true,
    counts_of_observed,
)


def test_labels_that_agree():
    latent = torch.arange(400) % 4
    found = compare_with_true(latent, 3 - latent, 4, list("abcd"), seed=0, permutations=20)
    assert found["mutual_information"] == pytest.approx(math.log(4))
    assert found["share_of_true_entropy"] == pytest.approx(1)
    assert found["purity"] == 1
    assert found["most_common_true_action"] == 0.25
    assert found["chance"]["mutual_information_95"] < 0.05
    assert found["table"][0] == [0, 0, 0, 100]


def test_labels_that_have_nothing_in_common():
    generator = torch.Generator().manual_seed(0)
    latent, true = (torch.randint(4, (2000,), generator=generator) for _ in range(2))
    found = compare_with_true(latent, true, 4, list("abcd"), seed=0, permutations=50)
    assert found["mutual_information"] < found["chance"]["mutual_information"] * 3
    assert found["mutual_information"] < 0.02


def test_chance_keeps_the_counts_and_repeats(monkeypatch):
    latent, true, tables, plain = torch.arange(60) % 2, torch.arange(60) % 3, [], formulas.agreement
    monkeypatch.setattr(formulas, "agreement", lambda table: tables.append(table) or plain(table))
    found = [chance_figures(latent, true, (2, 3), 4, seed=7) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0]["permutations"] == 4
    assert all(torch.equal(a, b) for a, b in zip(tables[:4], tables[4:], strict=True))
    assert all(t.sum(1).tolist() == [30, 30] for t in tables)
    assert not torch.equal(tables[0], tables[1])


def test_a_few_labels_name_latent_actions_that_agree():
    generator = torch.Generator().manual_seed(0)
    known, held_out = (torch.randint(4, (n,), generator=generator) for n in (300, 1000))
    found = action_maps((known, 3 - known), (held_out, 3 - held_out), 4, 4, seed=0)
    assert [line["labels"] for line in found] == [50, 100, 200]
    assert all(line["accuracy"] == 1 for line in found)
    assert all(line["std"] == 0 for line in found)
    assert all(line["most_common"] < 0.35 for line in found)


def test_labels_name_nothing_where_nothing_agrees():
    generator = torch.Generator().manual_seed(0)
    latent, true = (torch.randint(4, (4000,), generator=generator) for _ in range(2))
    known, held_out = (latent[:2000], true[:2000]), (latent[2000:], true[2000:])
    found = action_maps(known, held_out, 4, 4, seed=0)
    assert found[-1]["labels"] == 2000
    assert abs(found[-1]["accuracy"] - 0.25) < 0.05


def test_a_latent_action_without_a_label_gets_the_commonest_name():
    latent, true = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 0, 1, 1, 1])
    table = formulas.contingency(latent, true, 3, 2)
    assert formulas.action_map(table).tolist() == [0, 1, 1]


def test_without_the_network_labels_are_compared_all_the_same(evaluation):
    found = SUPERVISED.measure(evaluation())
    assert found["share_of_true_entropy"] == pytest.approx(1)
    assert found["true_actions"] == ["0", "1", "2", "3"]
    assert "share_of_ceiling" not in found
    assert [line["verdict"] for line in SUPERVISED.headlines_of(found)] == ["good"]


def test_names_are_given_to_latent_actions_by_training_steps(evaluation):
    steps = SUPERVISED.measure(evaluation())["action_maps"]
    assert steps[0]["labels"] == 50
    assert steps[0]["accuracy"] > 0.95
    # There is nothing to hold out where the training split itself is measured.
    assert "action_maps" not in SUPERVISED.measure(evaluation(split="train"))


def test_without_known_true_actions_there_is_nothing_to_compare(game, evaluation):
    store = game.store()
    store.labels = lambda split=None: torch.full((len(store.frames),), -1).numpy()
    with pytest.raises(Skipped, match="no true action is known in the 'val' split"):
        SUPERVISED.measure(evaluation(store=store))
    with pytest.raises(Skipped, match="without files of true actions"):
        SUPERVISED.measure(evaluation(store=game.store(labelled=False)))


def test_true_actions_that_never_occur_have_no_column():
    part = {"true_actions": ["stay", "jump", "left"], "table": [[5, 0, 0], [0, 0, 0], [2, 0, 7]]}
    assert counts_of_observed(part) == {
        "actions": ["stay", "left"],
        "rows": [[5, 0], [0, 0], [2, 7]],  # a latent action that is not used is worth knowing of
    }
