"""`kubectl camfleet logs`: a camera's worker, or what operator and gateway say about that camera.

The worker's pod is the one that the Camera's status names, so nobody has to know about attempts; with `-f`
the next attempt is followed when the worker is replaced.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from camfleet.kubectl.clean import clean_line
from camfleet.kubectl.cluster import Cluster, Json
from camfleet.kubectl.errors import Declined, Missing, Problem, Refused
from camfleet.kubectl.fleet import CameraView, find_cameras
from camfleet.kubectl.installation import find_installation
from camfleet.kubectl.target import Target, cluster_options

WORKER = "worker"
_FOLLOW = {"follow": "true"}
_POLL_SECONDS = 1.0
_POD_PREFIX = 38
"""A pod's name begins with so much of its camera's, at least."""


@click.command()
@click.argument("camera")
@click.option("-f", "--follow", is_flag=True, help="Go on, also with the worker that replaces this one.")
@click.option("-p", "--previous", is_flag=True, help="The container before this one, of the same pod.")
@click.option("--operator", is_flag=True, help="The operator's lines about the camera.")
@click.option("--gateway", is_flag=True, help="The gateways' lines about the camera.")
@click.option("--tail", type=click.IntRange(0), metavar="LINES", help="Begin with the last lines.")
@cluster_options
def command(
    camera: str,
    follow: bool,
    previous: bool,
    operator: bool,
    gateway: bool,
    tail: int | None,
    target: Target,
) -> None:
    """Print the log of CAMERA's current worker, or what operator and gateway say about the camera.

    Credentials are taken out of what is printed, as the programs themselves do. --tail counts lines of the
    log, also where only those about the camera are shown.
    """
    if follow and operator and gateway:
        raise click.UsageError("--follow follows one: --operator or --gateway")
    cluster = Cluster.connect(target)
    (view,) = find_cameras(cluster, target, [camera])
    params = dict(_FOLLOW) if follow else {}
    if tail is not None:
        params["tailLines"] = str(tail)
    if previous:
        params["previous"] = "true"
    try:
        if operator or gateway:
            _print_about(cluster, target, view, params, operator=operator, gateway=gateway)
        else:
            _print_worker(cluster, view, follow, params)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def log_path(namespace: str, pod: str) -> str:
    """Path of a pod's log."""
    return f"/api/v1/namespaces/{namespace}/pods/{pod}/log"


def about(line: str, camera: CameraView) -> bool:
    """Whether a line of operator or gateway is about a camera.

    A JSON line says so in its field `camera`, `NAMESPACE/NAME` or `NAMESPACE.NAME`, or in `namespace` and
    `camera`; any line may name it so in its text, or its worker's pod.
    """
    if camera.name[:_POD_PREFIX] not in line:
        return False
    ids = (camera.id, camera.key)
    try:
        entry: Any = json.loads(line)
    except ValueError:
        entry = None
    if isinstance(entry, dict):
        named, namespace = entry.get("camera"), entry.get("namespace")
        if named in ids or (named == camera.name and namespace in (camera.namespace, None)):
            return True
        if named:
            return False
    both = f"camera={camera.name} " in f"{line} " and f"namespace={camera.namespace} " in f"{line} "
    pod = str(camera.worker.get("podName") or "")
    words = "|".join(re.escape(word) for word in (*ids, pod) if word)
    return both or re.search(rf"(?<![\w.-])(?:{words})(?![\w-]|\.\w)", line) is not None


def _print_worker(cluster: Cluster, view: CameraView, follow: bool, params: dict[str, str]) -> None:
    seen = ""
    while True:
        pod = str(view.worker.get("podName") or "")
        if not pod:
            why = view.conditions.get("Ready", {})
            raise Declined(
                f"{view.id} has no worker",
                f"{why.get('reason')}: {why.get('message')}"
                if why
                else "the operator has not looked at it yet",
            )
        life = _life(cluster, view, pod)
        if life and life != seen:
            if seen:
                _note(
                    f"{view.id}: attempt {view.worker.get('attempt')}, "
                    f"pod {pod} on {view.node or 'no node yet'}"
                )
            seen = life
            try:
                for line in cluster.lines(log_path(view.namespace, pod), {"container": WORKER, **params}):
                    click.echo(clean_line(line))
            except Missing:
                if not follow:
                    raise Declined(
                        f"the pod {pod} of {view.id} is gone", f"kubectl camfleet explain {view.id} says why"
                    ) from None
            except Refused as error:
                # 400: the container has not started; with --follow it is waited for.
                if error.status != 400 or not follow:
                    raise _not_started(error, view) from None
                seen = ""
        if not follow:
            return
        params = dict(_FOLLOW)
        time.sleep(_POLL_SECONDS)
        view = CameraView(cluster.get(view.path))


def _not_started(error: Refused, view: CameraView) -> Problem:
    if error.status != 400:
        return error
    ready = view.conditions.get("Ready", {})
    return Declined(error.message, f"{ready.get('reason', '')}: {ready.get('message', '')}".strip(": "))


def _life(cluster: Cluster, view: CameraView, pod: str) -> str:
    """Names one run of the container: another pod or another restart is another."""
    try:
        found = cluster.find(f"/api/v1/namespaces/{view.namespace}/pods/{pod}")
    except Refused:
        return pod  # who may read logs need not be allowed to read pods
    statuses = ((found or {}).get("status") or {}).get("containerStatuses") or ()
    restarts = next((s.get("restartCount", 0) for s in statuses if s.get("name") == WORKER), 0)
    return f"{pod}/{restarts}"


def _print_about(
    cluster: Cluster,
    target: Target,
    view: CameraView,
    params: dict[str, str],
    *,
    operator: bool,
    gateway: bool,
) -> None:
    installation = find_installation(cluster, target)
    # Of the operators only the leader acts.
    parts: list[tuple[str, Sequence[Json]]] = []
    if operator:
        parts.append(("operator", installation.operators[:1]))
    if gateway:
        parts.append(("gateway", installation.gateways))
    printed = False
    for part, pods in parts:
        if not pods:
            raise Problem(f"no {part} runs in namespace {installation.namespace}")
        if "follow" in params and len(pods) > 1:
            _note(f"following {pods[0]['metadata']['name']}, one of {len(pods)}")
            pods = pods[:1]
        for pod in pods:
            name = str(pod["metadata"]["name"])
            if len(parts) + len(pods) > 2:
                _note(f"{part} {name}")
            path = log_path(installation.namespace, name)
            for line in _about(cluster.lines(path, {"container": part, **params}), view):
                click.echo(line)
                printed = True
    if not printed:
        _note(f"nothing about {view.id} in what is left of the log")


def _about(lines: Iterator[str], view: CameraView) -> Iterator[str]:
    for line in lines:
        if about(line, view):
            yield clean_line(line)


def _note(text: str) -> None:
    click.echo(f"--- {text}", err=True)
