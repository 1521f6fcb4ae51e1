"""`kubectl camfleet move`: ask for a worker on another node, and see where it ends up.

One annotation on the Camera is the request, and `status.lastReassignment.request` its receipt: the operator
carries each value out once, whoever else asks meanwhile.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from camfleet.kubectl.assess import next_text
from camfleet.kubectl.cluster import Cluster
from camfleet.kubectl.errors import FAILED, Declined, Missing, Unreachable
from camfleet.kubectl.evidence import Tools, ask
from camfleet.kubectl.fleet import CameraView, find_cameras
from camfleet.kubectl.target import Target, cluster_options, output_option
from camfleet.kubectl.text import duration
from camfleet_protocol.cluster import MOVE_ANNOTATION

_POLL_SECONDS = 1.0
_TIMEOUT_SECONDS = 120.0


@dataclass(slots=True)
class Request:
    """One camera's move.

    Attributes:
        before: The camera as it was.
        value: What the annotation was set to.
        said: What was printed of its way last.
        outcome: How it ended: `Moved`, `SameNode`, `Gone`, or empty while it is under way.
        node: Where it ended up.
    """

    before: CameraView
    value: str
    said: str = ""
    outcome: str = ""
    node: str = ""

    def look(self, now: CameraView) -> str:
        """Take in how the camera is now; returns what is new of it for people, or nothing."""
        done = now.last_move.get("request") == self.value
        ready = now.conditions.get("Ready", {})
        attempt = int(now.worker.get("attempt") or 0)
        replaced = attempt > int(self.before.worker.get("attempt") or 0)
        if done and replaced and now.ready and now.node:
            self.node = now.node
            self.outcome = "SameNode" if now.node == self.before.node else "Moved"
            if self.outcome == "Moved":
                return f"Ready on {now.node}, was on {self.before.node or 'no node'} (attempt {attempt})"
            return f"Ready again on the same node {now.node}, where the scheduler put it (attempt {attempt})"
        if not done:
            text = "the operator has not acted on it yet"
        else:
            text = f"{ready.get('reason', 'Starting')}, attempt {attempt}" + (
                f" on {now.node}" if now.node else ""
            )
        if text == self.said:
            return ""
        self.said = text
        return text


@click.command()
@click.argument("cameras", metavar="CAMERA...", nargs=-1, required=True)
@click.option("--wait", is_flag=True, help="Follow until it is ready again.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=_TIMEOUT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="With --wait: give up after so long.",
)
@output_option
@cluster_options
@click.pass_context
def command(
    context: click.Context, cameras: Sequence[str], wait: bool, timeout: float, output: str, target: Target
) -> None:
    """Ask the operator for a worker of each CAMERA on another node.

    The old worker ends before the new one starts, so the picture is away for some seconds. Nothing forces the
    scheduler: where only one node fits, the camera comes back to it. With --wait the command ends when the
    camera is ready again, and says on which node.

    Exit codes: 0 asked for, or with --wait ready again; 1 not ready in time; 2 the cluster could not be
    asked.
    """
    cluster = Cluster.connect(target)
    found = find_cameras(cluster, target, cameras)
    if suspended := [camera.id for camera in found if camera.suspended]:
        raise Declined(f"suspended, so there is no worker to move: {', '.join(suspended)}")
    text = output == "text"
    requests = []
    for camera in found:
        value = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        cluster.annotate(camera.path, MOVE_ANNOTATION, value)
        requests.append(Request(camera, value))
        if text:
            click.echo(
                f"{camera.id}: asked for a move away from {camera.node or 'nowhere, it has no node yet'}"
            )
    late: list[Request] = []
    if wait:
        late = follow(
            cluster, requests, timeout, (lambda line: click.echo(line)) if text else (lambda _: None)
        )
        for request in late if text else ():
            _explain_delay(context, cluster, target, request, timeout)
    elif text:
        click.echo("--wait follows; `kubectl camfleet explain CAMERA` says what came of it")
    if output == "json":
        click.echo(json.dumps([_as_json(request, wait) for request in requests], indent=2))
    context.exit(FAILED if late or any(r.outcome == "Gone" for r in requests) else 0)


def follow(
    cluster: Cluster, requests: Sequence[Request], timeout: float, tell: Callable[[str], None]
) -> list[Request]:
    """Wait until all have ended; returns those that have not in time."""
    until = time.monotonic() + timeout
    open_ones = list(requests)
    trouble = ""
    while True:
        for request in open_ones:
            try:
                news = request.look(CameraView(cluster.get(request.before.path)))
                trouble = ""
            except Missing:
                request.outcome, news = "Gone", "the camera was deleted"
            except Unreachable as error:
                # A move may well take the API server's own node along; it is asked again.
                news = "" if trouble else error.message
                trouble = error.message
            if news:
                tell(f"{request.before.id}: {news}")
        open_ones = [request for request in open_ones if not request.outcome]
        left = until - time.monotonic()
        if not open_ones or left <= 0:
            return open_ones
        time.sleep(min(_POLL_SECONDS, left))


def _explain_delay(
    context: click.Context, cluster: Cluster, target: Target, request: Request, timeout: float
) -> None:
    now = datetime.now(UTC)
    answer = ask(cluster, target, context.find_object(Tools) or Tools(), request.before.key)[1]
    decision = answer.document.get("decision") or {}
    why = f"operator: {next_text(decision, now)}" if decision else f"operator not asked: {answer.problem}"
    click.echo(f"{request.before.id}: not ready again after {duration(timeout)}; {why}", err=True)


def _as_json(request: Request, waited: bool) -> dict[str, object]:
    made: dict[str, object] = {
        "camera": request.before.id,
        "request": request.value,
        "fromNode": request.before.node or None,
    }
    if waited:
        made |= {"outcome": request.outcome or "Late", "toNode": request.node or None}
    return made
