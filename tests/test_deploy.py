"""What `deploy/` asks of a server is what the server has."""

import json
import re
from pathlib import Path

import pytest
import yaml

from genie.serving.play.metrics import Metrics

DEPLOY = Path(__file__).parents[1] / "deploy"
NAMES = re.compile(r"\b(?:genie|process)_[a-z_]+")


def exposed() -> set[str]:
    """Names of all series of a server, of those with labels as well."""
    metrics = Metrics()
    kinds = {family.name: family.type for family in metrics.registry.collect()}
    parts = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    return {name + part for name, kind in kinds.items() for part in parts.get(kind, [""])}


def expressions() -> list[str]:
    dashboard = json.loads((DEPLOY / "monitoring/dashboard.json").read_text())
    rules = yaml.safe_load((DEPLOY / "monitoring/rules.yaml").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return asked + [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("expression", expressions())
def test_rules_and_panels_ask_for_metrics_that_there_are(expression):
    asked = set(NAMES.findall(expression))
    assert asked <= exposed()
    assert asked or "up{" in expression


def test_rules_name_reasons_that_there_are():
    sources = (DEPLOY.parent / "src/genie/serving").rglob("*.py")
    code = "".join(path.read_text() for path in sources)
    reasons = [each for text in expressions() for each in re.findall(r'reason="(\w+)"', text)]
    assert reasons
    assert all(f'"{reason}"' in code for reason in reasons)


def test_a_pod_is_asked_where_the_server_answers_and_scaled_by_its_players():
    parts = {
        part["kind"]: part
        for part in yaml.safe_load_all((DEPLOY / "kubernetes/genie.yaml").read_text())
    }
    pod = parts["Deployment"]["spec"]["template"]
    container = pod["spec"]["containers"][0]
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in
              ("startup", "readiness", "liveness")}  # fmt: skip
    assert probes == {"startup": "/ready", "readiness": "/ready", "liveness": "/health"}
    scaled_by = parts["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert scaled_by in exposed()
    for kind in ("Service", "PodDisruptionBudget"):
        selector = parts[kind]["spec"]["selector"]
        assert selector.get("matchLabels", selector) == pod["metadata"]["labels"]
