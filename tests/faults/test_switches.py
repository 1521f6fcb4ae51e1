"""What a user says about moves: only show them, not now, never, and this one at once."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from camfleet_protocol.cluster import MOVE_ANNOTATION, PAUSE_ANNOTATION
from support.fault_site import FaultSite, freeze, thaw

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SECONDS = 90


def annotate(site: FaultSite, path: str, name: str, value: str | None) -> None:
    site.plane.patch(path, {"metadata": {"annotations": {name: value}}})


def test_moves_are_only_shown_with_dry_run_and_held_where_they_are_paused(
    start_site: Callable[..., FaultSite], measured: Callable[..., None]
) -> None:
    site = start_site("--dry-run")
    site.create_profile("quiet")
    site.create_all("shown", "idle-1", "idle-2", "idle-3", "idle-4", "idle-5")
    site.create_all("never", health={"reassignment": "Never"})
    site.create_all("profiled", profileRef={"name": "quiet"})
    site.create_all("paused")
    held = ("never", "profiled", "paused")
    before = site.look()
    freeze(site.worker("shown"))
    site.wait(lambda: "WouldMove" in site.reasons("shown"), "what would be done", seconds=SECONDS)
    assert site.explain("shown")["decision"]["action"] == "WouldMove"
    time.sleep(3 * site.pace.scrape)
    assert site.look() == before
    thaw(site.worker("shown"))
    site.wait_ready("shown")

    # Now for real, but with everything paused somewhere.
    profile = f"/apis/camfleet.io/v1alpha1/namespaces/{site.name}/cameraprofiles/quiet"
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{site.name}/leases/camfleet-operator"
    annotate(site, profile, PAUSE_ANNOTATION, "true")
    annotate(site, f"{site.cameras_path}/paused", PAUSE_ANNOTATION, "true")
    annotate(site, lease, PAUSE_ANNOTATION, "true")
    site.arguments = ()
    site.replace_operator()
    for camera in ("shown", *held):
        freeze(site.worker(camera))
    for camera in ("shown", *held):
        site.wait(lambda c=camera: "MoveHeld" in site.reasons(c), f"{camera}'s Event", seconds=SECONDS)
        assert site.explain(camera)["decision"]["action"] == "Held"
    assert site.look() == before
    old = site.pod("shown")["metadata"]["name"]
    annotate(site, lease, PAUSE_ANNOTATION, None)
    began = time.time()
    site.wait_streaming(["shown"], began, elsewhere={"shown": old}, seconds=SECONDS)
    measured("after the pause was lifted it streams", time.time() - began)
    now = site.look()
    assert {c: now[c] for c in before if c != "shown"} == {c: before[c] for c in before if c != "shown"}
    measured("Events", {text for c in ("shown", *held) for why, text in site.events(c) if "Move" in why})

    annotate(site, profile, PAUSE_ANNOTATION, None)
    annotate(site, f"{site.cameras_path}/paused", PAUSE_ANNOTATION, None)
    for camera in ("profiled", "paused"):
        site.wait(lambda camera=camera: site.attempt(camera) == 2, f"{camera} to be moved", seconds=SECONDS)
    assert site.attempt("never") == 1


def test_a_move_that_is_asked_for_is_made_once(
    start_site: Callable[..., FaultSite], measured: Callable[..., None]
) -> None:
    site = start_site()
    site.create_all("door", "hall", "yard")
    before, node = site.look(), site.node_of("door")
    old = site.pod("door")["metadata"]["name"]
    began = time.time()
    annotate(site, f"{site.cameras_path}/door", MOVE_ANNOTATION, "2026-01-01T00:00:00Z")
    times = site.wait_streaming(["door"], began, elsewhere={"door": old}, seconds=SECONDS)
    measured("streams elsewhere", times["door"])
    site.wait_ready("door")
    move = site.last_move("door")
    assert (move["reason"], move["request"], move["fromNode"]) == ("Requested", "2026-01-01T00:00:00Z", node)
    assert site.node_of("door") != node
    after = site.look()
    site.operator.kill()
    site.operator.start()
    site.wait(site.operator.leads, "the operator to lead")
    time.sleep(5 * site.pace.scrape)
    assert site.look() == after, "done is done, whoever looks"
    assert {c: after[c] for c in ("hall", "yard")} == {c: before[c] for c in ("hall", "yard")}
    annotate(site, f"{site.cameras_path}/door", MOVE_ANNOTATION, "2026-01-01T00:10:00Z")
    site.wait(lambda: site.attempt("door") == 3, "the next one", seconds=SECONDS)
