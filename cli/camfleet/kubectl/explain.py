"""`kubectl camfleet explain`: the evidence behind the last verdict and the last move of one camera."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from camfleet.kubectl.clean import clean
from camfleet.kubectl.cluster import Cluster, Json
from camfleet.kubectl.errors import Refused
from camfleet.kubectl.evidence import Answer, Tools, ask, ask_installation
from camfleet.kubectl.fleet import CameraView, find_cameras
from camfleet.kubectl.pauses import Pauses, find_pauses
from camfleet.kubectl.target import Target, cluster_options, output_option
from camfleet.kubectl.text import age, clock, counted, shorten, table

_EVENTS = 10
_ORDER = ("Ready", "Scheduled", "SourceConnected", "Streaming", "Degraded")
_FAULTS = {
    "None": "nobody's",
    "Starting": "nobody's yet: it is starting",
    "Source": "the camera's, or its network's: another node would not help",
    "Worker": "the worker's",
    "Node": "the node's",
    "Blind": "not known: the operator cannot see",
}


@click.command()
@click.argument("camera")
@output_option
@cluster_options
@click.pass_context
def command(context: click.Context, camera: str, output: str, target: Target) -> None:
    """Show why CAMERA is judged as it is, what the operator has decided, and why it was moved last.

    Verdict, fault, decision, node and history come from the operator; without the right to ask it, what the
    Camera's status and its Events say is shown.
    """
    cluster = Cluster.connect(target)
    tools = context.find_object(Tools) or Tools()
    now = datetime.now(UTC)
    (view,) = find_cameras(cluster, target, [camera])
    installation, answer = ask(cluster, target, tools, view.key)
    fleet = ask_installation(cluster, installation, tools) if installation and answer else Answer()
    pauses = find_pauses(cluster, view.namespace, [view], installation)
    events, problem = _events(cluster, view)
    node = _node(fleet.document, str(answer.document.get("node") or view.node))
    if output == "json":
        document = {
            "camera": clean(view.raw),
            "explain": answer.document or None,
            "operator": {"pod": answer.pod or None, "problem": answer.problem or None},
            "node": node or None,
            "pausedBy": pauses.of(view),
            "events": [clean(event) for event in events],
        }
        click.echo(json.dumps(document, indent=2))
        return
    for line in (
        *_head(view, answer, node, pauses, now),
        *_conditions(view, now),
        *_verdict(answer, now),
        *_move(view, answer, now),
        *_history(answer, now),
        *_event_lines(events, problem, now),
    ):
        click.echo(shorten(line))


def _head(
    view: CameraView, answer: Answer, node: Mapping[str, Any], pauses: Pauses, now: datetime
) -> Iterator[str]:
    yield f"Camera     {view.id}{' (suspended)' if view.suspended else ''}"
    where = str(answer.document.get("node") or view.node)
    about = []
    if node:
        about.append(str(node.get("state", "?")))
        if node.get("leaseAge") is not None:
            about.append(f"heard of {float(node['leaseAge']):.0f} s ago")
        about.append(f"{node.get('bad', 0)} of {counted(int(node.get('cameras') or 0), 'camera')} bad")
        if node.get("avoidedUntil"):
            about.append(f"avoided until {clock(node['avoidedUntil'], now)}")
        if node.get("reason"):
            about.append(str(node["reason"]))
    details = f" ({', '.join(about)})" if about else ""
    yield f"Node       {where or '-'}{details}"
    worker = view.worker
    attempt = answer.document.get("attempt", worker.get("attempt", "-"))
    yield f"Worker     pod {answer.document.get('pod') or worker.get('podName') or '-'}, attempt {attempt}"
    if answer.document.get("placement"):
        yield f"Placement  {answer.document['placement']}"
    health = view.spec.get("health") or {}
    if health.get("reassignment") == "Never":
        yield "Moves      never for the sake of health: spec.health.reassignment"
    if by := pauses.of(view):
        yield f"Paused     by {', '.join(by)}"
    if view.requested:
        yield f"Asked for  a move, at {clock(view.requested, now)}; not done yet"


def _conditions(view: CameraView, now: datetime) -> Iterator[str]:
    yield ""
    found = view.conditions
    if not found:
        yield "The operator has not written a status yet."
        return
    yield from table(
        ("CONDITION", "STATUS", "REASON", "FOR", "MESSAGE"),
        [
            (
                name,
                str(found[name].get("status", "?")),
                str(found[name].get("reason", "?")),
                age(found[name].get("lastTransitionTime"), now),
                str(found[name].get("message", "")),
            )
            for name in sorted(found, key=lambda n: (_ORDER.index(n) if n in _ORDER else len(_ORDER), n))
        ],
    )
    generation = view.raw["metadata"].get("generation")
    seen = found.get("Ready", {}).get("observedGeneration")
    if isinstance(generation, int) and isinstance(seen, int) and seen < generation:
        yield "The operator has not yet looked at the latest change of the Camera."


def _verdict(answer: Answer, now: datetime) -> Iterator[str]:
    yield ""
    document = answer.document
    if not document:
        yield f"Verdict    not known: {answer.problem}"
        if answer.hint:
            yield f"           {answer.hint}"
        return
    said = f": {document['message']}" if document.get("message") else ""
    yield f"Verdict    {document.get('verdict', '?')}, {document.get('reason') or 'no reason'}{said}"
    if document.get("readings"):
        since = f", since {clock(document['badSince'], now)}" if document.get("badSince") else ""
        readings = counted(int(document["readings"]), "bad reading")
        yield f"           {readings} in a row, {document.get('needed', '?')} needed{since}"
    if document.get("gateway"):
        yield f"           as gateway {document['gateway']} says, which holds its worker"
    fault = str(document.get("fault") or "?")
    yield f"Fault      {fault}: {_FAULTS.get(fault, 'see the operator manual')}"
    decision = document.get("decision") or {}
    yield f"Decision   {_decision(decision)}"
    if decision.get("notBefore"):
        yield f"           not before {clock(decision['notBefore'], now)}"
    if answer.problem:
        yield f"           note: {answer.problem}"


def _decision(decision: Mapping[str, Any]) -> str:
    reason = f" ({decision['reason']})" if decision.get("reason") else ""
    message = f": {decision['message']}" if decision.get("message") else ""
    return f"{decision.get('action') or '?'}{reason}{message}"


def _move(view: CameraView, answer: Answer, now: datetime) -> Iterator[str]:
    last = view.last_move or answer.document.get("lastReassignment") or {}
    if not last:
        yield "Last move  none"
        return
    nodes = f"{last.get('fromNode') or '?'} -> {last.get('toNode') or 'not placed yet'}"
    count = f", {last['count']} in a row" if int(last.get("count") or 0) > 1 else ""
    yield f"Last move  {clock(last.get('time'), now)}, {last.get('reason', '?')}: {nodes}{count}"
    if last.get("message"):
        yield f"           {last['message']}"


def _history(answer: Answer, now: datetime) -> Iterator[str]:
    history: Sequence[Mapping[str, Any]] = answer.document.get("history") or ()
    if history:
        yield ""
        rows = [
            (clock(h.get("time"), now), str(h.get("verdict")), str(h.get("reason") or "")) for h in history
        ]
        yield from table(("VERDICTS SO FAR", "", ""), rows)


def _event_lines(events: Sequence[Json], problem: str, now: datetime) -> Iterator[str]:
    yield ""
    if problem:
        yield f"Events     not known: {problem}"
        return
    if not events:
        yield "Events     none"
        return
    yield from table(
        ("LAST SEEN", "TYPE", "EVENT", "TIMES", "MESSAGE"),
        [
            (
                age(_event_time(e), now),
                str(e.get("type", "")),
                str(e.get("reason", "")),
                str(e.get("count") or 1),
                str(e.get("message") or ""),
            )
            for e in events
        ],
    )


def _events(cluster: Cluster, view: CameraView) -> tuple[list[Json], str]:
    """The latest Events about a camera, oldest first, or why there are none to show."""
    selector = f"involvedObject.kind=Camera,involvedObject.name={view.name}"
    try:
        found = cluster.items(f"/api/v1/namespaces/{view.namespace}/events", {"fieldSelector": selector})
    except Refused as error:
        return [], error.message
    uid = view.raw["metadata"].get("uid")
    own = [event for event in found if event.get("involvedObject", {}).get("uid") in (uid, None, "")]
    return sorted(own, key=lambda event: str(_event_time(event)))[-_EVENTS:], ""


def _event_time(event: Mapping[str, Any]) -> object:
    return event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp")


def _node(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return next((n for n in document.get("nodes") or () if n.get("name") == name), {})
