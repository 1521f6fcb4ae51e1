"""`kubectl camfleet status`: the fleet in one line, then who is not ready, why, and what is done about it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from camfleet.kubectl.assess import Assessment, assess, spread
from camfleet.kubectl.cluster import Cluster
from camfleet.kubectl.errors import FAILED
from camfleet.kubectl.evidence import Answer, Tools, ask, ask_installation
from camfleet.kubectl.fleet import find_cameras, scope, scope_text
from camfleet.kubectl.pauses import Pauses, find_pauses
from camfleet.kubectl.target import Target, cluster_options, output_option
from camfleet.kubectl.text import age, counted, shorten, table

_LINES = 20
_GROUPS = 10


@click.command()
@click.argument("cameras", metavar="[CAMERA]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="List every camera that is not ready.")
@click.option("--lines", type=click.IntRange(0), default=_LINES, show_default=True, help="List so many.")
@output_option
@cluster_options
@click.pass_context
def command(
    context: click.Context,
    cameras: Sequence[str],
    everything: bool,
    lines: int,
    output: str,
    target: Target,
) -> None:
    """Say how many cameras are ready, why the others are not, and what the operator does about it.

    What the operator does comes from the operator itself, which takes the right to get `pods/proxy` where it
    runs; without it the cameras' own conditions are shown. Suspended cameras count as well.

    Exit codes: 0 all are ready, 1 some are not, 2 the cluster could not be asked.
    """
    cluster = Cluster.connect(target)
    tools = context.find_object(Tools) or Tools()
    now = datetime.now(UTC)
    found = find_cameras(cluster, target, cameras)
    installation, answer = ask(cluster, target, tools)
    explained = answer.document if answer else None
    if explained is not None and installation is not None and cameras:
        # By name, for the list of all is cut off at 500.
        bad = [camera for camera in found if not camera.ready]
        single = [ask_installation(cluster, installation, tools, camera.key) for camera in bad]
        explained = {**explained, "cameras": [one.document for one in single if one]}
    fleet = assess(found, explained, now)
    pauses = find_pauses(cluster, scope(cluster, target), found, installation)
    if output == "json":
        document = {
            "scope": scope_text(cluster, target),
            **fleet.as_json(),
            "paused": pauses.as_json(),
            "operator": _operator_json(answer),
        }
        click.echo(json.dumps(document, indent=2))
    else:
        head = _summary(
            fleet, f"named {scope_text(cluster, target)}" if cameras else scope_text(cluster, target)
        )
        most = len(fleet.bad) if everything else lines
        for line in (*head, *_operator(answer, pauses, now), *_trouble(fleet, answer, most, now)):
            click.echo(line)
    context.exit(FAILED if fleet.bad else 0)


def _summary(fleet: Assessment, where: str) -> Iterator[str]:
    if not fleet.rows:
        yield f"There are no cameras {where}."
        return
    parts = [f"{fleet.count('Ready')} ready", f"{len(fleet.bad)} not ready"]
    if suspended := fleet.count("Suspended"):
        parts.append(f"{suspended} suspended")
    moving = f"; {fleet.moving} being moved" if fleet.moving else ""
    yield f"{counted(len(fleet.rows), 'camera')} {where}: {', '.join(parts)}{moving}"


def _operator(answer: Answer, pauses: Pauses, now: datetime) -> Iterator[str]:
    document = answer.document
    if not document:
        yield shorten(f"operator: not asked: {answer.problem}")
        if answer.hint:
            yield f"          {answer.hint}"
        yield "          what is done about a camera is not known; the rest is from the cameras' conditions"
    else:
        who = f"{answer.pod} {'leads' if document.get('leader') else 'IS A STANDBY, no leader answers'}"
        yield shorten(f"operator: {who}; {_evaluator(document.get('evaluator') or {}, now)}")
        yield from _warnings(document, now)
    if pauses:
        yield shorten(f"PAUSED    {pauses.text()}")
    elif document.get("paused"):
        yield "PAUSED    the whole installation"


def _evaluator(evaluator: Mapping[str, Any], now: datetime) -> str:
    kind = str(evaluator.get("kind") or "none")
    url = f" {evaluator['url']}" if evaluator.get("url") else ""
    sampled = evaluator.get("sampledAt")
    read = f"last reading {age(sampled, now)} ago" if sampled else "no reading yet"
    return f"evaluator {kind}{url}, {read}"


def _warnings(document: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """Whatever keeps the operator from acting."""
    if blind := (document.get("evaluator") or {}).get("blind"):
        yield shorten(f"BLIND     {_because(blind, now)}; nothing is moved")
    for frozen in document.get("frozen") or ():
        yield shorten(
            f"FROZEN    {frozen.get('scope', '?')}: {_because(frozen, now)}; nothing is moved there"
        )
    if document.get("dryRun"):
        yield "DRY RUN   moves are announced and not made"
    if problem := document.get("nodesProblem"):
        yield shorten(f"NODES     not seen: {problem}")
    for node in document.get("nodes") or ():
        if node.get("state") in ("Dead", "Faulty", "Suspect"):
            cameras = f"{node.get('bad', 0)} of {counted(int(node.get('cameras') or 0), 'camera')} bad"
            why = f": {node['reason']}" if node.get("reason") else ""
            yield shorten(f"{str(node['state']).upper():<9} node {node.get('name')}{why}, {cameras}")


def _because(entry: Mapping[str, Any], now: datetime) -> str:
    since = f" for {age(entry['since'], now)}" if entry.get("since") else ""
    return f"{entry.get('reason', '?')}{since}: {entry.get('message', '')}"


def _trouble(fleet: Assessment, answer: Answer, most: int, now: datetime) -> Iterator[str]:
    bad, groups = fleet.bad, fleet.groups
    if not bad:
        return
    if len(bad) > 1:
        yield ""
        yield from table(
            ("CAMERAS", "REASON", "FAULT", "OPERATOR"),
            [(str(g.count), g.reason, g.fault or "-", g.next) for g in groups[:_GROUPS]],
        )
        if len(groups) > _GROUPS:
            rest = sum(group.count for group in groups[_GROUPS:])
            yield f"{rest:<7}  in {len(groups) - _GROUPS} more kinds of trouble"
    shown = spread(bad, most)
    if shown:
        yield ""
        yield from table(
            ("CAMERA", "REASON", "FOR", "NODE", "WHY, AND WHAT THE OPERATOR DOES"),
            [
                (
                    row.camera,
                    row.reason,
                    age(row.since, now),
                    row.node or "-",
                    # A condition may say already why nothing is moved.
                    row.message if row.next in row.message else f"{row.message or '-'} -> {row.next}",
                )
                for row in shown
            ],
        )
    if len(shown) < len(bad):
        yield f"… and {len(bad) - len(shown)} more; --all lists them"
    told = len((answer.document or {}).get("cameras") or ())
    if answer and told < len(bad) and told >= 500:
        yield f"the operator tells of {told} at once; `kubectl camfleet explain CAMERA` asks about one"


def _operator_json(answer: Answer) -> dict[str, Any]:
    kept = {k: v for k, v in answer.document.items() if k != "cameras"}
    return {"asked": bool(answer), "pod": answer.pod or None, "problem": answer.problem or None, **kept}
