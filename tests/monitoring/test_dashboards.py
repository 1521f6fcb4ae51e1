"""The Grafana dashboards: generated, linted, and every query answered by a real Prometheus.

Prometheus scrapes a real gateway with real workers; see dashboard_site.py for what is played. Panels that a
healthy fleet leaves empty are listed with their reason, and filled by making the situation that they show.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml
from dashboard_site import DEAD, PAUSED, Site, running_site, trouble, work
from monitoring.generate import FOLDER, documents

from camfleet_gateway.metrics import FAMILIES
from support.fleet import eventually

Json = dict[str, Any]
BOARDS: dict[str, Json] = {path.stem: json.loads(text) for path, text in documents().items()}
every_board = pytest.mark.parametrize("name", BOARDS)

EMPTY_WHEN_ALL_IS_WELL = {
    ("fleet", "Offline cameras"): "no camera is offline",
    ("fleet", "Pictures given up"): "a machine that is not busy gives up none",
    ("camera", "Pictures given up"): "a machine that is not busy gives up none",
    ("fleet", "Errors of sources"): "a reason has a series once it has happened",
    ("fleet", "GPU memory of workers"): "no worker uses a GPU",
    ("camera", "Errors of the source"): "a reason has a series once it has happened",
    ("camera", "GPU memory"): "the worker uses no GPU",
    ("gateway", "Refused connections"): "a reason has a series once it has happened",
    ("operator", "Blind"): "the operator sees everything",
    ("operator", "Frozen"): "a scope has a series once it was frozen",
}


# ── The files ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_files_are_what_the_tables_say() -> None:
    stale = [path.name for path, text in documents().items() if not path.exists() or path.read_text() != text]
    assert not stale, "run `make chart`"
    assert {path.stem for path in FOLDER.glob("*.json")} == set(BOARDS)


def test_each_has_a_place_of_its_own() -> None:
    assert {board["uid"] for board in BOARDS.values()} == {f"camfleet-{name}" for name in BOARDS}
    for board in BOARDS.values():
        ids = [panel["id"] for panel in all_panels(board)]
        assert len(ids) == len(set(ids))
        titles = [panel["title"] for panel in data_panels(board)]
        for left, right in itertools.combinations(map(box, all_panels(board)), 2):
            assert left[2] <= right[0] or right[2] <= left[0] or left[3] <= right[1] or right[3] <= left[1]
        assert len(titles) > 12


def box(panel: Json) -> tuple[int, int, int, int]:
    place = panel["gridPos"]
    assert place["x"] + place["w"] <= 24
    return place["x"], place["y"], place["x"] + place["w"], place["y"] + place["h"]


# ── As Grafana's dashboard-linter wants them; exceptions are in dashboards/.lint, with reasons ───────────

EXCEPTIONS = yaml.safe_load((FOLDER / ".lint").read_text())["exclusions"]
UNITS = {
    "short", "s", "bytes", "Bps", "percentunit", "ops", "cps", "wps", "none",
}  # fmt: skip
SELECTOR = re.compile(r"(?<![\w\"$.:])([a-zA-Z_:][\w:]*)\{([^}]*)\}")


def excepted(rule: str, board: str, panel: str) -> bool:
    """Whether the linter's configuration lets this be."""
    if rule not in EXCEPTIONS:
        return False
    entries = EXCEPTIONS[rule].get("entries")
    assert EXCEPTIONS[rule]["reason"]
    return entries is None or any(
        entry.get("dashboard", BOARDS[board]["title"]) == BOARDS[board]["title"]
        and entry.get("panel", panel) == panel
        for entry in entries
    )


@every_board
def test_variables_are_as_the_linter_wants_them(name: str) -> None:
    board = BOARDS[name]
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    source = variables.pop("datasource")
    assert not variables["cluster"]["multi"], "series of several clusters must not be matched with each other"
    assert (source["type"], source["query"], source["label"]) == ("datasource", "prometheus", "Data source")
    for key in ("job", "instance"):
        if key not in variables:
            assert excepted(f"template-{key}-rule", name, "")
            continue
        assert variables[key]["label"] == key.title()
        assert variables[key]["multi"] and variables[key]["allValue"] == ".+"
    for variable in variables.values():
        assert variable["datasource"]["uid"] == "${datasource}"
        assert re.fullmatch(r"label_values\(.+, \w+\)", variable["query"]["query"])
        assert variable["refresh"] == 2, "values follow the range of time"
    assert board["editable"] is False
    assert board["schemaVersion"] >= 39


@every_board
def test_panels_are_as_the_linter_wants_them(name: str) -> None:
    for panel in data_panels(BOARDS[name]):
        title = panel["title"]
        assert title and panel["description"].endswith("."), title
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, title
        assert panel["targets"], title
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            check_expression(name, title, target["expr"])


def check_expression(name: str, title: str, expression: str) -> None:
    for metric, matchers in SELECTOR.findall(expression):
        for label in ("job", "instance"):
            if f'{label}=~"${label}"' not in matchers:
                assert excepted(f"target-{label}-rule", name, title), f"{title}: {metric}: no {label}"
        assert 'cluster="$cluster"' in matchers, f"{title}: {metric}: no cluster"
        if metric.endswith("_total"):
            written = re.escape(f"{metric}{{{matchers}}}")
            assert re.search(rf"(rate|increase)\({written}\[", expression), f"{title}: {metric} is no rate"
    for name_only in re.findall(r"\bcamfleet_\w+", expression):
        assert f"{name_only}{{" in expression, f"{title}: {name_only} of any job"
    for range_ in re.findall(r"(?:rate|increase)\([^[]*\[([^]]*)\]", expression):
        assert range_ in ("$__rate_interval", "$__range"), f"{title}: {range_}"


def test_links_lead_to_dashboards_and_variables_that_exist() -> None:
    for board in BOARDS.values():
        assert [link["tags"] for link in board["links"]] == [["camfleet"]] and "camfleet" in board["tags"]
        text = json.dumps(board)
        for uid, query in re.findall(r'/d/([\w-]+)\?([^"]*)', text):
            target = next(b for b in BOARDS.values() if b["uid"] == uid)
            names = {variable["name"] for variable in target["templating"]["list"]}
            assert set(re.findall(r"var-(\w+)=", query)) <= names
            assert set(re.findall(r"\$\{(\w+):queryparam\}", query)) <= names


def test_every_metric_of_a_camera_is_shown_somewhere() -> None:
    text = json.dumps(list(BOARDS.values()))
    for family in FAMILIES:
        assert f"camfleet_camera_{family.suffix}" in text, family.suffix


# ── What Prometheus answers ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("dashboards")) as running:
        yield running


EVERYTHING = {
    "cluster": "",
    "job": ".+", "instance": ".+", "namespace": ".*", "site": ".*", "node": ".*", "camera": "hall",
}  # fmt: skip
"""Variables as Grafana fills them in when All is chosen."""


@pytest.mark.e2e
@every_board
def test_variables_have_values(site: Site, name: str) -> None:
    for variable in BOARDS[name]["templating"]["list"][2:]:  # no data source here, nor a label `cluster`
        series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
        found = site.prometheus.query(substitute(series, {**EVERYTHING, "namespace": "default"}))
        assert {labels[label] for labels, _ in found if labels.get(label)}, variable["name"]


@pytest.mark.e2e
@every_board
def test_every_query_has_an_answer(site: Site, name: str) -> None:
    chosen = EVERYTHING if name != "camera" else {**EVERYTHING, "namespace": "default"}
    answers = dict(answered(site, name, chosen))
    listed = {title for board, title in EMPTY_WHEN_ALL_IS_WELL if board == name}
    assert listed <= answers.keys()
    assert {title for title, parts in answers.items() if not all(parts)} <= listed


@pytest.mark.e2e
def test_what_is_empty_when_all_is_well_is_filled_when_it_is_not(site: Site) -> None:
    """From here on a source is dead, a camera is paused, an operator is troubled, and somebody is refused."""
    trouble(site.pages.operator)
    work(site.pages.operator, leads=True)
    site.pages.operator.blind("PrometheusUnreachable")
    site.pages.gpu_camera = "hall"
    site.fleet.write("yard", DEAD)
    site.fleet.write("barn", PAUSED)
    site.pause_gateway(1.0)  # the worker that is watched has nowhere to send its pictures to
    site.fleet.get("/api/cameras", headers={"Host": "evil.example"})
    # What Grafana sends when some values are chosen instead of All.
    chosen = {
        "cluster": "",
        "job": "(camfleet/camfleet-gateway|camfleet/camfleet-operator|exporters)",
        "instance": "(gateway-0|operator-0|exporters-0)",
        "namespace": "default",
        "site": "(north|south)",
        "node": "local",
    }
    missing: dict[tuple[str, str], object] = {}

    def filled() -> bool:
        missing.clear()
        for board, title in EMPTY_WHEN_ALL_IS_WELL:
            camera = "yard" if title == "Errors of the source" else "hall"
            (answers,) = [a for _, a in answered(site, board, {**chosen, "camera": camera}, title)]
            if not all(answers):
                missing[board, title] = answers
        return not missing

    try:
        eventually(filled, "all panels to be filled")
    except AssertionError:
        raise AssertionError(f"still empty: {missing}") from None

    chosen["node"] = ".*"  # what is paused is on none
    board = dict(answered(site, "fleet", chosen))
    assert {(s["metric"]["camera"], s["values"][-1][1]) for s in board["Offline cameras"][0]} == {
        ("yard", "1")
    }
    assert value(board["Offline"]) == 1 and value(board["Cameras"]) == 2, "a paused camera is not offline"
    assert value(board["Available"]) == 0.5
    states = [float(answer[0]["values"][-1][1]) for answer in board["Cameras by state"]]
    assert states == [1, 1, 0, 0, 1], "streaming, no source, no worker, stale, paused"
    shares = {s["metric"]["site"]: float(s["values"][-1][1]) for s in board["Availability by site"][0]}
    assert shares == {"north": 1, "south": 0}
    assert float(board["Offline cameras"][2][0]["values"][-1][1]) < 60, "seconds since its last picture"
    north = dict(answered(site, "fleet", {**chosen, "site": "north"}))
    assert value(north["Offline"]) == 0 and value(north["Cameras"]) == 1
    operator = dict(answered(site, "operator", EVERYTHING))
    assert value(operator["Healthy"]) == 2, "the standby's verdicts do not count twice"


@pytest.mark.e2e
def test_marks_on_the_time_axis_have_an_answer(site: Site) -> None:
    """Last in this file: a minute's increase needs a counter that has moved since it was first seen."""
    site.pages.operator.moved("NodeLost")
    for board in BOARDS.values():
        for annotation in board["annotations"]["list"][1:]:
            chosen = {**EVERYTHING, "namespace": "default"}
            expression = substitute(annotation["expr"], chosen)
            if annotation["name"] == "New worker":
                expression = expression.replace("offset 1m", "offset 2s")
                site.prometheus.query(expression)  # a new worker would take as long as this whole file
            else:
                site.prometheus.until(expression)


# ── Helpers ─────────────────────────────────────────────────────────────────────────────────────────────


def all_panels(board: Json) -> Iterator[Json]:
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", ())


def data_panels(board: Json) -> Iterator[Json]:
    return (panel for panel in all_panels(board) if panel["type"] != "row")


def substitute(expression: str, variables: dict[str, str]) -> str:
    """The query that Grafana sends."""
    values = {"__rate_interval": "5s", "__range": "60s", "__interval": "1s", **variables}
    return re.sub(r"\$(\w+)", lambda found: values[found.group(1)], expression)


def answered(
    site: Site, name: str, variables: dict[str, str], only: str = ""
) -> Iterator[tuple[str, list[list[Json]]]]:
    """Each panel's title and, for each of its queries, the series that Prometheus answers with."""
    with httpx.Client(base_url=f"{site.prometheus.url}/api/v1", timeout=20) as client:
        for panel in data_panels(BOARDS[name]):
            if only in ("", panel["title"]):
                yield panel["title"], [ask(client, target, variables) for target in panel["targets"]]


def ask(client: httpx.Client, target: Json, variables: dict[str, str]) -> list[Json]:
    expression, now = substitute(target["expr"], variables), time.time()
    if target["instant"]:
        answer = client.post("/query", data={"query": expression})
    else:
        span = {"query": expression, "start": str(now - 1), "end": str(now), "step": "1"}
        answer = client.post("/query_range", data=span)
    assert answer.status_code == 200, f"{expression}\n{answer.text}"
    found = answer.json()
    assert not found.get("warnings"), found
    return [
        {"metric": series["metric"], "values": series.get("values") or [series["value"]]}
        for series in found["data"]["result"]
    ]


def value(answers: list[list[Json]]) -> float:
    ((series,),) = answers
    return float(series["values"][-1][1])
