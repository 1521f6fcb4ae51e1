"""The recording and alerting rules: what promtool says, their form, their pages, and a real Prometheus."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from monitoring.metrics_page import SECTIONS

from camfleet.kubectl.main import cli
from camfleet_protocol.local import StateFolder
from support.gateway_page import GatewayPage
from support.gateway_process import GatewayProcess, put_camera, test_pattern
from support.prometheus_process import PrometheusProcess
from support.promtool import promtool

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "monitoring" / "rules" / "camfleet.rules.yaml"
TESTS = sorted((ROOT / "monitoring" / "tests").glob("*.yaml"))
RUNBOOKS = ROOT / "docs" / "runbooks"
BASE = "https://github.com/camfleet/camfleet/blob/main/docs/runbooks/"
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
ALL = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = [rule for rule in ALL if "alert" in rule]
RECORDS = [rule for rule in ALL if "record" in rule]
NAMES = sorted({rule["alert"] for rule in ALERTS})
PAGES = sorted(path for path in RUNBOOKS.glob("*.md") if path.name != "README.md")
SECTIONS_OF_A_PAGE = [
    "What it means", "Who notices", "Look at", "Likely causes, in this order", "What to do",
    "When it is no fault",
]  # fmt: skip


# ── What they do ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_they_fire_when_they_should_and_not_otherwise(path: Path) -> None:
    promtool("test", "rules", str(path))


def test_each_alert_is_seen_firing_in_a_test() -> None:
    fired = {
        name
        for path in TESTS
        for name in re.findall(r'ALERTS\{alertname="(\w+)", alertstate="firing", severity=', path.read_text())
    }
    only_counted = {"CamfleetSiteOffline"}  # fleet.yaml compares it with its annotations
    assert fired | only_counted == set(NAMES)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> StateFolder:
    folder = StateFolder(tmp_path_factory.mktemp("state"))
    folder.create()
    put_camera(folder, test_pattern("door", site="north"))
    paused = test_pattern("paused", site="north")
    spec = paused.spec.model_copy(update={"suspend": True})
    put_camera(folder, paused.model_copy(update={"spec": spec}))
    return folder


@pytest.fixture(scope="module")
def prometheus(state: StateFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusProcess]:
    """It has the rules, evaluated every second, and scrapes a real gateway and a page like one."""
    rules = tmp_path_factory.mktemp("rules") / "camfleet.rules.yaml"
    rules.write_text(re.sub(r"interval: \d+s", "interval: 1s", RULES.read_text()))
    gateway = GatewayProcess(state)
    with GatewayPage() as page:
        page.cameras = {"default.hall"}
        targets = [f"{gateway.internal_url}/metrics", page.url]
        try:
            with PrometheusProcess(targets, rule_files=[rules]) as running:
                yield running
        finally:
            gateway.kill()


def test_a_real_prometheus_evaluates_them_on_a_real_gateways_metrics(prometheus: PrometheusProcess) -> None:
    streaming = "camfleet_fleet:cameras_streaming:count"
    prometheus.until("camfleet_fleet:cameras:count", lambda found: [value for _, value in found] == [2.0])
    prometheus.until(streaming, lambda found: [value for _, value in found] == [2.0])
    cameras = {
        (labels["namespace"], labels["camera"])
        for labels, _ in prometheus.query("camfleet_camera:last_picture_timestamp_seconds:max")
    }
    assert cameras == {("default", "door"), ("default", "hall")}, "all but the paused one"
    newest = prometheus.query("max(camfleet_camera:last_picture_timestamp_seconds:max{camera='hall'})")
    assert abs(newest[0][1] - time.time()) < 60
    found = prometheus.query("camfleet_site:cameras:count")
    assert [(labels["site"], value) for labels, value in found] == [("north", 1.0)]
    for record in RECORDS:
        prometheus.until(record["record"])
    answer = httpx.get(f"{prometheus.url}/api/v1/rules", timeout=10).json()["data"]["groups"]
    rules = [rule for group in answer for rule in group["rules"]]
    assert len(rules) == len(ALL)
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
    pending = {rule["name"] for rule in rules if rule.get("state", "inactive") != "inactive"}
    assert pending <= {"CamfleetGatewaySaturated"}, "a busy machine is late, and nothing else is wrong"


# ── Their form ──────────────────────────────────────────────────────────────────────────────────────────


def test_promtool_finds_nothing_to_complain_of() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))


def test_names_are_of_one_form() -> None:
    for rule in RECORDS:
        assert re.fullmatch(r"camfleet_(camera|site|fleet):[a-z_]+:[a-z0-9_]+", rule["record"])
    for name in NAMES:
        assert re.fullmatch(r"Camfleet([A-Z][a-z]+)+", name)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_people_need(rule: dict[str, Any]) -> None:
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"}, {"severity": "info"})
    assert "for" in rule
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"{BASE}{rule['alert']}.md"
    assert len(rule["annotations"]["summary"]) < 120
    assert rule["annotations"]["description"].endswith(".")


def test_only_metrics_that_exist_are_used() -> None:
    """A metric that is renamed in a program would make an alert silent for ever."""
    known = {name for metrics in SECTIONS.values() for metric in metrics() for name in metric.names}
    recorded = {rule["record"] for rule in RECORDS}
    for rule in ALL:
        used = set(re.findall(r"\bcamfleet_\w+(?::\w+)*", rule["expr"]))
        assert used, rule
        assert used <= known | recorded, rule


def test_no_aggregation_keeps_labels_by_accident() -> None:
    aggregation = re.compile(r"(?<![:\w])(?:sum|max|min|avg|count|topk) ?\(")
    assert [rule.get("alert", rule.get("record")) for rule in ALL if aggregation.search(rule["expr"])] == []


# ── Their pages ─────────────────────────────────────────────────────────────────────────────────────────


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert [path.stem for path in PAGES] == NAMES


def test_the_index_lists_them_with_their_severities() -> None:
    listed = re.findall(
        r"^\| \[(\w+)\]\((\w+)\.md\) \| ([a-z, ]+) \|", (RUNBOOKS / "README.md").read_text(), re.MULTILINE
    )
    severities: dict[str, list[str]] = {}
    for rule in ALERTS:
        severities.setdefault(rule["alert"], []).append(rule["labels"]["severity"])
    assert listed == [(name, name, ", ".join(said)) for name, said in severities.items()]
    assert set(re.findall(r"`(camfleet_\w+:[\w:]+)`", (RUNBOOKS / "README.md").read_text())) == {
        rule["record"] for rule in RECORDS if not re.search(r"_(30m|1h|6h)$", rule["record"])
    }


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_says_everything_and_nothing_that_is_not_there(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(f"# {path.stem}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS_OF_A_PAGE
    assert re.search(r"^```promql$", text, re.MULTILINE)
    assert all(re.split(r"^## .*$", text, flags=re.MULTILINE)[1:])
    assert set(re.findall(r"kubectl camfleet (\w+)", text)) <= set(cli.list_commands(None))  # type: ignore[arg-type]
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        document = path.parent / file if file else path
        assert document.exists(), target
        headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, target


def test_the_queries_of_the_pages_can_be_asked(tmp_path: Path) -> None:
    """Each line of a block of PromQL is a query; promtool reads them as rules, and their metrics exist."""
    known = {name for metrics in SECTIONS.values() for metric in metrics() for name in metric.names}
    known |= {rule["record"] for rule in RECORDS}
    queries = [
        line
        for path in (*PAGES, ROOT / "docs" / "metrics.md")
        for block in re.findall(r"^```promql\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(queries) > 2 * len(PAGES)
    for query in queries:
        assert set(re.findall(r"\bcamfleet_\w+(?::\w+)*", query)) <= known, query
    rules = [{"record": f"test:query_{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", "--lint=none", str(file))
