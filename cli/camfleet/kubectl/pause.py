"""`kubectl camfleet pause` and `resume`: the annotation that keeps the operator from moving what runs.

On a Camera it holds for that camera, on a CameraProfile for all its cameras, on the operator's Lease for the
whole installation. Workers that end are started again all the same, and a move that a person asks for is
made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import click

from camfleet.kubectl.cluster import Cluster, collection
from camfleet.kubectl.errors import Problem
from camfleet.kubectl.fleet import CameraView, find_cameras, find_profile, is_paused, scope
from camfleet.kubectl.installation import Installation, find_installation
from camfleet.kubectl.pauses import Pauses, find_pauses
from camfleet.kubectl.target import Target, cluster_options, output_option
from camfleet_protocol.cluster import PAUSE_ANNOTATION


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        output_option,
        click.option(
            "--all", "everything", is_flag=True, help="The whole installation: the operator's Lease."
        ),
        click.option(
            "--profile", "profiles", metavar="NAME", multiple=True, help="All cameras of a profile."
        ),
        click.argument("cameras", metavar="[CAMERA]...", nargs=-1),
    ):
        command = option(command)
    return command


@click.command()
@_options
@cluster_options
def pause(
    cameras: Sequence[str], profiles: Sequence[str], everything: bool, output: str, target: Target
) -> None:
    """Let nothing be moved for the sake of health: of CAMERAs, of a profile, or of the installation.

    Workers that end start again, and what `kubectl camfleet move` asks for is done all the same.
    """
    _set(cameras, profiles, everything, output, target, value="true")


@click.command()
@_options
@cluster_options
def resume(
    cameras: Sequence[str], profiles: Sequence[str], everything: bool, output: str, target: Target
) -> None:
    """End the pause of CAMERAs, of a profile, or of the installation.

    Each pause ends by itself: a camera stays paused as long as its profile or the installation is.
    """
    _set(cameras, profiles, everything, output, target, value=None)


def _set(
    cameras: Sequence[str],
    profiles: Sequence[str],
    everything: bool,
    output: str,
    target: Target,
    *,
    value: str | None,
) -> None:
    if not (cameras or profiles or everything):
        raise click.UsageError("say what: CAMERA, --profile NAME, or --all for the whole installation")
    if profiles and target.all_namespaces:
        raise click.UsageError("a profile is of one namespace: --namespace, not --all-namespaces")
    cluster = Cluster.connect(target)
    installation = _installation(cluster, target, needed=everything)
    # All are looked up before anything is changed: a typing error in the third name changes nothing.
    found = find_cameras(cluster, target, cameras) if cameras else []
    raw_profiles = [find_profile(cluster, cluster.namespace, name) for name in dict.fromkeys(profiles)]
    changes: list[tuple[str, str, bool]] = [
        *((camera.path, f"camera {camera.id}", camera.paused) for camera in found),
        *(
            (
                f"{collection('cameraprofiles', cluster.namespace)}/{raw['metadata']['name']}",
                f"profile {cluster.namespace}/{raw['metadata']['name']}",
                is_paused(raw),
            )
            for raw in raw_profiles
        ),
    ]
    if everything and installation is not None:
        lease = f"installation {installation.namespace} (Lease {installation.lease_name})"
        changes.append((installation.lease_path, lease, is_paused(installation.lease or {})))
    word = "paused" if value else "resumed"
    results = []
    for path, name, was in changes:
        same = was is (value is not None)
        if not same:
            cluster.annotate(path, PAUSE_ANNOTATION, value)
        results.append({"object": name, "result": "unchanged" if same else word})
        if output == "text":
            click.echo(
                f"{name}: {f'was {word} already' if same and value else 'was not paused' if same else word}"
            )
    _tell(cluster, target, output, results, found)


def _tell(
    cluster: Cluster,
    target: Target,
    output: str,
    results: list[dict[str, str]],
    touched: Sequence[CameraView],
) -> None:
    """Say what is paused now, for pauses add up."""
    installation = _installation(cluster, target, needed=False)
    where = scope(cluster, target)
    everywhere = {camera.id: camera for camera in (CameraView(raw) for raw in cluster.cameras(where))}
    for camera in touched:
        if camera.id not in everywhere:
            everywhere[camera.id] = CameraView(cluster.get(camera.path))
    pauses = find_pauses(cluster, where, everywhere.values(), installation)
    if output == "json":
        click.echo(json.dumps({"changes": results, "paused": pauses.as_json()}, indent=2))
        return
    click.echo(f"paused now: {pauses.text()}{_unknown(pauses)}")
    for camera in touched:
        now = everywhere[camera.id]
        by = [entry for entry in pauses.of(now) if not entry.startswith("its own")]
        if by and not now.paused:
            click.echo(f"camera {now.id} is still paused, by {' and '.join(by)}")


def _unknown(pauses: Pauses) -> str:
    return f" (not known: {', '.join(pauses.unknown)})" if pauses.unknown else ""


def _installation(cluster: Cluster, target: Target, *, needed: bool) -> Installation | None:
    try:
        found = find_installation(cluster, target)
    except Problem:
        if needed:
            raise
        return None
    if needed and found.lease is None:
        raise Problem(found.lease_problem)
    return found
