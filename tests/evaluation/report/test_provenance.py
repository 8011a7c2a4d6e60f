import json

import torch

from genie.evaluation.report import provenance


def test_facts_are_plain(game):
    store = game.store()
    facts = [
        provenance.describe_machine(torch.device("cpu")),
        provenance.describe_store(store, "game", "val"),
    ]
    assert json.loads(json.dumps(facts)) == facts
    assert facts[0]["cores"] >= 1
    assert facts[1] | {"frames": 240, "episodes": 6} == facts[1]
