"""`kubectl camfleet status` and `explain`: counts, reasons, what is done, and what could not be asked."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from kubectl_site import LEADER, PluginSite, ago, conditions

from camfleet.kubectl.assess import assess, next_text, spread
from camfleet.kubectl.errors import Refused
from camfleet.kubectl.evidence import Tools
from camfleet.kubectl.fleet import CameraView
from camfleet.kubectl.text import clock, duration, parse_time, shorten, table

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NO_ROUTE = conditions("False", "SourceUnreachable", "no route to 192.0.2.10", SourceConnected=("False", "X"))


def view(name: str, status: list[dict[str, object]], **spec: object) -> CameraView:
    return CameraView(
        {"metadata": {"namespace": "north", "name": name}, "spec": spec, "status": {"conditions": status}}
    )


# ── Pure parts ──────────────────────────────────────────────────────────────────────────────────────


def test_of_5000_cameras_the_odd_one_is_seen() -> None:
    cameras = [view(f"cam-{n}", conditions("True", "Streaming")) for n in range(2000)]
    cameras += [view(f"bad-{n}", NO_ROUTE) for n in range(2998)]
    cameras += [view("gpu", conditions("False", "InsufficientGPU", "0/9 nodes")), view("new", [])]
    fleet = assess(cameras, None, NOW)
    assert (fleet.count("Ready"), len(fleet.bad)) == (2000, 3000)
    assert [(g.count, g.reason, g.fault) for g in fleet.groups] == [
        (2998, "SourceUnreachable", "Source"),
        (1, "InsufficientGPU", ""),
        (1, "NoStatus", ""),
    ]
    shown = spread(fleet.bad, 20)
    assert len(shown) == 20
    assert {row.camera for row in shown} >= {"north/gpu", "north/new"}
    assert len(spread(fleet.bad, 3000)) == 3000


def test_the_operators_word_is_what_is_done() -> None:
    explained = {
        "cameras": [
            {
                "camera": "north.a",
                "fault": "Node",
                "decision": {
                    "action": "Wait",
                    "reason": "X",
                    "message": "2 of 3",
                    "notBefore": "2026-01-01T12:00:20Z",
                },
            }
        ]
    }
    stuck = conditions("False", "InferenceStuck", "stuck")
    fleet = assess([view("a", stuck), view("b", stuck), view("off", NO_ROUTE, suspend=True)], explained, NOW)
    a, b = sorted(fleet.bad, key=lambda row: row.camera)
    assert (a.fault, a.action, a.next) == ("Node", "Wait", "waits until 12:00:20Z (in 20s): 2 of 3")
    assert b.next == "the operator does not count it as unhealthy"
    assert fleet.count("Suspended") == 1
    assert assess([view("b", stuck)], None, NOW).bad[0].next == "not known without the operator"


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        ({"action": "None", "message": "quiet"}, "nothing: quiet"),
        ({"action": "Move", "message": "now"}, "moves it: now"),
        ({"action": "WouldMove", "reason": "NodeLost"}, "would move it (dry run): NodeLost"),
        ({"action": "Held", "message": "paused by you"}, "holds back: paused by you"),
        ({"action": "Held", "message": "not moved: paused by you"}, "not moved: paused by you"),
        ({"action": "Later"}, "Later"),
        ({}, "not known without the operator"),
    ],
)
def test_decisions_in_words(decision: dict[str, str], said: str) -> None:
    assert next_text(decision, NOW) == said


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0s"), (42, "42s"), (192, "3m12s"), (3600, "1h"), (18420, "5h7m"), (183600, "2d3h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_times_of_any_kind() -> None:
    assert parse_time("2026-01-01T12:00:00.123456Z") is not None
    assert parse_time("2026-01-01T12:00:00") == NOW
    assert [parse_time(bad) for bad in (None, "", "now", 3)] == [None] * 4
    assert clock("2026-01-01T11:57:00Z", NOW) == "11:57:00Z (3m ago)"
    assert clock("nonsense", NOW) == "?"


def test_a_cell_cannot_move_the_cursor_and_a_line_ends() -> None:
    lines = table(("A", "B"), [("x\x1b[2J", "y\nz")])
    assert lines == ["A      B", "x [2J  y z"]
    assert len(shorten("x" * 1000)) == 200


# ── With a cluster ──────────────────────────────────────────────────────────────────────────────────

pytestmark = [pytest.mark.cluster]


def test_status_says_why_and_what_is_done(site: PluginSite) -> None:
    site.installed()
    site.camera("good")
    site.camera("off", conditions("False", "Suspended"), spec={"suspend": True})
    site.camera("gate", conditions("False", "InferenceStuck", "no picture was examined for 31 s"))
    site.camera("roof", NO_ROUTE)
    site.explain.unhealthy(f"{site.name}.gate")
    site.explain.fleet |= {
        "paused": True,
        "frozen": [{"scope": "zone a", "reason": "MostlyBad", "message": "4 of 5 nodes", "since": ago(60)}],
        "nodes": [{"name": "node-3", "state": "Suspect", "reason": "2 bad", "cameras": 9, "bad": 2}],
    }
    result = site.run("status")
    text = result.stdout
    assert result.exit_code == 1
    assert f"4 cameras in namespace {site.name}: 1 ready, 2 not ready, 1 suspended" in text
    assert f"{LEADER} leads; evaluator prometheus http://prometheus.monitoring:9090, last reading" in text
    assert re.search(r"FROZEN    zone a: MostlyBad for \S+: 4 of 5 nodes; nothing is moved there", text)
    assert "SUSPECT   node node-3: 2 bad, 2 of 9 cameras bad" in text
    assert "PAUSED    the whole installation" in text
    (gate,) = [line for line in text.splitlines() if line.startswith(f"{site.name}/gate")]
    assert "InferenceStuck" in gate
    assert "no picture was examined for 31 s -> holds back: it was moved lately" in gate
    assert "nothing: another node would not help" in text

    document = site.json("status")
    assert (document["ready"], document["notReady"], document["suspended"]) == (1, 2, 1)
    assert document["operator"]["evaluator"]["kind"] == "prometheus"
    one = site.json("status", "gate")
    assert [row["action"] for row in one["notReadyCameras"]] == ["Held"]
    assert site.run("status", "good", "off").exit_code == 0


def test_status_without_the_operator_says_so(site: PluginSite) -> None:
    site.camera("roof", NO_ROUTE)
    result = site.run("status")
    assert result.exit_code == 1
    assert f"operator: not asked: no Camfleet is installed in namespace {site.install}" in result.stdout
    assert "no route to 192.0.2.10 -> nothing: another node would not help" in result.stdout

    def forbidden(*_: object) -> tuple[int, bytes]:
        raise Refused(403, "not allowed: pods/proxy")

    site.installed()
    result = site.run("status", tools=Tools(pod_page=forbidden))
    assert "operator: not asked: you may not ask the operator" in result.stdout
    assert f"it takes the right to get pods/proxy in namespace {site.install}" in result.stdout


def test_a_standby_is_heard_and_named(site: PluginSite) -> None:
    site.installed()
    site.camera("good")
    site.explain.fleet["leader"] = False
    result = site.run("status")
    assert result.exit_code == 0
    assert "IS A STANDBY, no leader answers" in result.stdout
    assert site.explain.asked[0] == (LEADER, "/explain")


def test_no_cameras(site: PluginSite) -> None:
    result = site.run("status")
    assert result.exit_code == 0
    assert f"There are no cameras in namespace {site.name}." in result.stdout


def test_explain_shows_the_evidence(site: PluginSite) -> None:
    site.installed()
    made = site.camera(
        "gate",
        conditions(
            "False", "InferenceStuck", "stuck", Scheduled=("True", "Scheduled"), Extra=("True", "New")
        ),
        attempt=3,
        lastReassignment={
            "time": ago(840),
            "reason": "WorkerFault",
            "message": "4 bad readings in a row",
            "fromNode": "node-2",
            "toNode": "node-3",
            "count": 2,
        },
    )
    site.explain.unhealthy(f"{site.name}.gate")
    site.explain.fleet["nodes"] = [
        {
            "name": "node-3",
            "state": "Suspect",
            "reason": "2 bad",
            "leaseAge": 4.2,
            "cameras": 9,
            "bad": 2,
            "avoidedUntil": ago(-60),
        }
    ]
    site.plane.post(
        f"/api/v1/namespaces/{site.name}/events",
        {
            "metadata": {"name": "gate.1"},
            "involvedObject": {
                "kind": "Camera",
                "namespace": site.name,
                "name": "gate",
                "uid": made["metadata"]["uid"],
            },
            "type": "Normal",
            "reason": "WorkerMoved",
            "message": "from node-2",
            "lastTimestamp": ago(840),
            "count": 1,
        },
    )
    result = site.run("explain", "gate")
    assert result.exit_code == 0, result.output
    for said in (
        "Node       node-3 (Suspect, heard of 4 s ago, 2 of 9 cameras bad, avoided until",
        "Worker     pod gate-1a2b3c4d5e, attempt 3",
        "Placement  away from node-2",
        "Verdict    Unhealthy, InferenceStuck: no picture was examined for 31 s",
        "4 bad readings in a row, 3 needed, since",
        "Fault      Worker: the worker's",
        "Decision   Held (Backoff): it was moved lately",
        "not before",
        "Last move",
        "WorkerFault: node-2 -> node-3, 2 in a row",
        "4 bad readings in a row",
        "VERDICTS SO FAR",
        "14m        Normal  WorkerMoved  1      from node-2",
    ):
        assert said in result.stdout
    document = site.json("explain", "gate")
    assert document["explain"]["decision"]["reason"] == "Backoff"
    assert document["events"][0]["reason"] == "WorkerMoved"
    assert "managedFields" not in document["camera"]["metadata"]


def test_explain_without_operator_and_status(site: PluginSite) -> None:
    site.plane.post(
        site.cameras_path,
        {
            "apiVersion": "camfleet.io/v1alpha1",
            "kind": "Camera",
            "metadata": {"name": "new"},
            "spec": {"source": {"testPattern": {}}},
        },
    )
    result = site.run("explain", "new")
    assert result.exit_code == 0
    assert "The operator has not written a status yet." in result.stdout
    assert "Verdict    not known: no Camfleet is installed" in result.stdout
    assert "Last move  none" in result.stdout
