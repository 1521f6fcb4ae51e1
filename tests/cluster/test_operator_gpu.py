"""GPUs that are too few: who runs, who waits and says so, who takes a CPU instead."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.testbed.control_plane import ControlPlane

from support.cluster_site import Site

pytestmark = pytest.mark.cluster

RESOURCE = "camfleet.test/gpu"


@pytest.fixture(scope="module", autouse=True)
def gpu_node(plane: ControlPlane) -> Iterator[None]:
    """A node with four GPUs, under a name of our own so that no other test is drawn to it."""
    plane.create_node("gpu-node", capacity={RESOURCE: "4"})
    yield
    plane.delete("/api/v1/nodes/gpu-node")


def scheduled(site: Site) -> dict[str, tuple[str, str]]:
    cameras = site.plane.items(site.cameras_path)
    return {
        camera["metadata"]["name"]: site.conditions(camera["metadata"]["name"]).get("Scheduled", ("", ""))
        for camera in cameras
    }


def test_four_gpus_six_cameras_then_preferred_ones(site: Site) -> None:
    site.operator("--gpu-patience-seconds=4")
    gpu = {"resourceName": RESOURCE}
    for number in range(6):
        site.create(f"cam-{number}", gpu={"mode": "Required", **gpu})

    def four_run_two_wait() -> bool:
        said = sorted(scheduled(site).values())
        return said == [("False", "InsufficientGPU")] * 2 + [("True", "Scheduled")] * 4

    site.wait(four_run_two_wait, "four to run and two to wait")
    waiting = sorted(name for name, said in scheduled(site).items() if said[0] == "False")
    assert site.conditions(waiting[0])["Ready"] == ("False", "InsufficientGPU")
    message = next(c for c in site.camera(waiting[0])["status"]["conditions"] if c["type"] == "Scheduled")
    assert f"Insufficient {RESOURCE}" in message["message"]

    placed = next(name for name, said in scheduled(site).items() if said[0] == "True")
    site.change(placed, suspend=True)

    def four_run_one_waits() -> bool:
        said = list(scheduled(site).values())
        return (said.count(("True", "Scheduled")), said.count(("False", "InsufficientGPU"))) == (4, 1)

    site.wait(four_run_one_waits, "the freed GPU to be taken")

    site.create("hall", gpu={"mode": "Preferred", **gpu})
    site.wait(
        lambda: site.conditions("hall").get("Scheduled") == ("False", "InsufficientGPU"), "hall to wait"
    )
    site.wait_ready("hall")
    assert site.conditions("hall")["Degraded"] == ("True", "GPUUnavailable")
    container = site.pod("hall")["spec"]["containers"][0]
    assert RESOURCE not in container["resources"]["limits"]
    assert {"name": "CAMFLEET_PROVIDER", "value": "cpu"} in container["env"]
    site.wait(lambda: any(r == "GPUUnavailable" for r, _ in site.events("hall")), "an Event")


def test_a_preferred_gpu_is_taken_when_there_is_one(site: Site) -> None:
    site.operator()
    site.create("door", gpu={"mode": "Preferred", "resourceName": RESOURCE})
    site.wait_ready("door")
    limits = site.pod("door")["spec"]["containers"][0]["resources"]["limits"]
    assert limits[RESOURCE] == "1"
    assert site.conditions("door")["Degraded"] == ("False", "AsExpected")


def test_a_full_node_and_an_impossible_wish_are_told_apart(site: Site) -> None:
    site.operator()
    site.create("picky", placement={"nodeSelector": {"camfleet.test/nowhere": "true"}})
    site.create("greedy", resources={"requests": {"cpu": "4000"}})
    site.wait(lambda: site.conditions("picky").get("Scheduled") == ("False", "NoMatchingNode"), "picky")
    site.wait(lambda: site.conditions("greedy").get("Scheduled") == ("False", "InsufficientCPU"), "greedy")
    site.change("greedy", resources={"requests": {"cpu": "1"}})
    site.wait_ready("greedy")
