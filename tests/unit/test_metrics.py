"""Metrics are what documents, alert rules and the dashboard say of them; each alert has its page of the runbook."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import REGISTRY, Counter, Gauge, Histogram

import hub.app  # noqa: F401 - brings every module that measures
from tests.unit.test_docs import anchors_of

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
KINDS = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}
TAIL = {"counter": "_total", "gauge": "", "histogram": ""}
OF_SCRAPING = {"up": {"job", "instance"}}
"""What Prometheus itself adds."""


def metrics() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Every metric of the hub's: its kind and labels."""
    found = {}
    for made in set(REGISTRY._collector_to_names):
        kind = KINDS.get(type(made))
        if kind and made._name.startswith("partyline_"):
            found[made._name + TAIL[kind]] = (kind, made._labelnames)
    return found


def samples() -> dict[str, set[str]]:
    """The series that a scrape gives, with the labels they have."""
    found = {name: set(labels) for name, labels in OF_SCRAPING.items()}
    for name, (kind, labels) in metrics().items():
        if kind == "histogram":
            found |= {f"{name}_bucket": {*labels, "le"}, f"{name}_sum": set(labels), f"{name}_count": set(labels)}
        else:
            found[name] = set(labels)
    return found


def rows() -> list[tuple[str, str, str]]:
    text = (ROOT / "docs" / "metrics.md").read_text()
    return re.findall(r"^\| `(partyline_\w+)` \| (\w+) \| (.*?) ?\| \S", text, re.MULTILINE)


def test_every_metric_has_its_row_with_type_and_labels() -> None:
    written = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows()}
    assert written == metrics()
    assert len(rows()) == len(written)


# Queries ------------------------------------------------------------------------------------------------------------


def selectors(node: Any) -> Iterator[Any]:
    """Every vector selector of a parsed query."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("vector_selector", "lhs", "rhs", "expr", "param"):
        if (inner := getattr(node, name, None)) is not None:
            yield from selectors(inner)
    for inner in getattr(node, "args", None) or ():
        yield from selectors(inner)


def groupings(node: Any) -> Iterator[str]:
    """Every label that results are grouped by."""
    modifier = getattr(node, "modifier", None)
    if isinstance(node, promql_parser.AggregateExpr) and modifier is not None:
        yield from modifier.labels
    for name in ("lhs", "rhs", "expr"):
        if (inner := getattr(node, name, None)) is not None:
            yield from groupings(inner)
    for inner in getattr(node, "args", None) or ():
        yield from groupings(inner)


def check(query: str) -> None:
    """It parses; the series and labels it names are there."""
    parsed, known = promql_parser.parse(query), samples()
    there: set[str] = set()
    found = list(selectors(parsed))
    assert found, query
    for selector in found:
        assert selector.name in known, f"{selector.name} in {query}"
        there |= known[selector.name]
        for matcher in selector.matchers.matchers:
            assert matcher.name in {*known[selector.name], "job", "instance"}, f"{matcher.name} in {query}"
    assert set(groupings(parsed)) <= there | {"instance"}, query


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def test_a_wrong_query_would_be_found() -> None:
    for query in (
        "partyline_nothing > 0",
        'sum(rate(partyline_sends_total{colour="red"}[5m]))',
        "sum by (colour) (partyline_sends_total)",
    ):
        with pytest.raises(AssertionError):
            check(query)
    with pytest.raises(ValueError, match="unclosed"):
        check("sum by (rate(")


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_there_is_and_has_its_page(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Partyline[A-Z]\w+", rule["alert"])
    check(rule["expr"])
    assert rule["labels"]["severity"] in {"page", "ticket"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor == rule["alert"].lower()
    assert anchor in anchors_of(ROOT / page)
    named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert named <= {*groupings(promql_parser.parse(rule["expr"])), "instance"}


def test_the_runbook_has_no_page_for_an_alert_that_is_gone() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    headings = re.findall(r"^#### (Partyline\w+)$", text, re.MULTILINE)
    assert headings == [rule["alert"] for rule in rules()]


# The dashboard -------------------------------------------------------------------------------------------------------


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def test_the_dashboard_is_one_that_can_be_imported() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time", "refresh"} <= set(board)
    assert board["id"] is None
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    (source, *_) = board["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
    taken = [
        (panel["gridPos"]["x"] + dx, panel["gridPos"]["y"] + dy)
        for panel in board["panels"]
        for dx in range(panel["gridPos"]["w"])
        for dy in range(panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_asks_for_what_there_is(panel: dict[str, Any]) -> None:
    assert panel["description"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for target in panel["targets"]:
        check(target["expr"].replace("$__rate_interval", "5m"))


def test_every_metric_is_on_the_dashboard_or_in_an_alert() -> None:
    queries = [rule["expr"] for rule in rules()]
    queries += [target["expr"] for panel in panels() for target in panel["targets"]]
    asked = {s.name for q in queries for s in selectors(promql_parser.parse(q.replace("$__rate_interval", "5m")))}
    for name, (kind, _) in metrics().items():
        assert {name, f"{name}_bucket"} & asked, f"nobody looks at {name}, a {kind}"
