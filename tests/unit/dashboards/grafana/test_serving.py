"""The serving dashboard against the metrics that the model server really exposes."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dashboards.grafana.serving import USERS, build, to_json
from headrace.models.gptj import GPTJ, GPTJConfig
from headrace.serving.engine import Engine
from headrace.serving.metrics import NO_ROUTE, Metrics

ROOT = Path(__file__).parents[4]
SMALL = GPTJConfig(vocab_size=8, n_layer=1, d_model=8, n_head=1, d_ff=8, rotary_dim=4, context_tokens=8)
EVERY_SERIES = 14
"""Panels have at least this many queries together; fewer means that some were lost."""


class Letters:
    eos_id = 0

    def encode(self, text: str) -> list[int]:
        return [ord(letter) % 8 for letter in text]

    def decode(self, ids: Any) -> str:
        return "".join(map(str, ids))


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Labels by series, as a server that has answered one request shows them."""
    metrics = Metrics(Engine(GPTJ(SMALL), Letters(), "causal", "small", version="1", digest="0"))
    metrics.requests.labels("/v1/completions", "200").inc()
    metrics.seconds.labels("/v1/completions").observe(0.1)
    families = text_string_to_metric_families(metrics.text().decode())
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def panels() -> list[dict[str, Any]]:
    return list(json.loads(to_json())["panels"])


def queries() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel["targets"]:
            yield target["legendFormat"], target["expr"]


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each series an expression selects, with the labels it is selected by."""
    for name, labels in re.findall(r"(\w+)\{([^}]*)\}", expression):
        yield name, set(re.findall(r"(\w+)(?:=~|!~|!=|=)", labels))


def test_module_prints_the_json_that_grafana_imports() -> None:
    command = [sys.executable, "-m", "dashboards.grafana.serving"]
    printed = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    assert printed["title"] == "headrace: model server"
    assert printed == json.loads(to_json())


def test_every_query_asks_for_series_and_labels_that_the_server_exposes(exposed: dict[str, set[str]]) -> None:
    asked = [selector for _, expression in queries() for selector in selectors(expression)]
    assert len(asked) >= EVERY_SERIES
    for name, labels in asked:
        assert name in exposed
        assert labels <= exposed[name] | {"instance"}  # which Prometheus adds


def test_every_label_grouped_by_or_named_in_a_legend_is_there(exposed: dict[str, set[str]]) -> None:
    for legend, expression in queries():
        known = set.union(*(exposed[name] for name, _ in selectors(expression)))
        grouped = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", expression) for label in labels.split(",")}
        named = set(re.findall(r"\{\{(\w+)\}\}", legend))
        assert grouped <= known
        assert named <= (grouped or known)


def test_every_series_the_server_counts_is_looked_at(exposed: dict[str, set[str]]) -> None:
    asked = {name for _, expression in queries() for name, _ in selectors(expression)}
    bookkeeping = {name for name in exposed if name.endswith(("_created", "_sum", "_count"))}
    assert set(exposed) - bookkeeping == asked


def test_users_requests_leave_out_probes_scrapes_and_strangers() -> None:
    pattern = re.compile(re.search(r'route!~"([^"]*)"', USERS)[1])  # type: ignore[index]
    for route in ("/v2/health/ready", "/v2/health/live", "/health", "/metrics", NO_ROUTE):
        assert pattern.fullmatch(route)
    for route in ("/v1/completions", "/v1/models", "/v2/models/{name}/infer"):
        assert not pattern.fullmatch(route)


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels())
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24


def test_every_panel_reads_the_prometheus_that_is_chosen() -> None:
    variables = {variable.name: variable for variable in build().templating.list_val or []}
    assert variables["source"].type_val == "datasource"
    assert {panel["datasource"]["uid"] for panel in panels()} == {"${source}"}
    assert all(panel["title"] and panel["description"] for panel in panels())
