"""The metrics of a real worker at a real gateway: whole, typed, good for promtool, gone with the camera."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
from gateway_clients import eventually
from prometheus_client.parser import text_string_to_metric_families

from camfleet_protocol.local import StateFolder
from support.gateway_process import GatewayProcess, put_camera, remove_camera, test_pattern, worker_token
from support.promtool import check_metrics
from support.worker_process import worker_process

CAMERA: dict[str, tuple[str, set[str]]] = {
    "info": ("gauge", {"node", "pod", "attempt", "profile", "site", "source_type"}),
    "worker_connected": ("gauge", set()),
    "source_connected": ("gauge", set()),
    "picture_frozen": ("gauge", set()),
    "last_frame_timestamp_seconds": ("gauge", set()),
    "last_inference_timestamp_seconds": ("gauge", set()),
    "frames_captured": ("counter", set()),
    "frames_inferred": ("counter", set()),
    "frames_encoded": ("counter", set()),
    "frames_published": ("counter", set()),
    "source_reconnects": ("counter", set()),
    "inference_seconds": ("summary", set()),
    "detections": ("counter", {"kind"}),
    "events_dropped": ("counter", set()),
    "worker_cpu_seconds": ("counter", set()),
    "worker_resident_memory_bytes": ("gauge", set()),
    "viewers": ("gauge", set()),
}
"""What every running worker has, by family: type, and labels besides namespace and camera."""
SOMETIMES = {
    "suspended": ("gauge", set[str]()),
    "frames_dropped": ("counter", {"reason"}),
    "source_errors": ("counter", {"reason"}),
    "worker_gpu_memory_bytes": ("gauge", set()),
}
OF_NO_WORKER = {"info", "worker_connected", "viewers"}


class Page:
    """One scrape."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.text = httpx.get(f"{gateway.internal_url}/metrics", timeout=60).text
        self.types: dict[str, str] = {}
        self.labels: dict[str, set[str]] = {}
        self.cameras: dict[str, dict[str, float]] = {}
        """Values by camera and sample; of several, the last one."""
        self.info: dict[str, dict[str, str]] = {}
        for family in text_string_to_metric_families(self.text):
            name = family.name.removeprefix("camfleet_camera_")
            if name == family.name:
                continue
            self.types[name] = family.type
            for sample in family.samples:
                camera = sample.labels.pop("camera")
                assert sample.labels.pop("namespace") == "default"
                self.labels.setdefault(name, set()).update(sample.labels)
                short = sample.name.removeprefix("camfleet_camera_")
                self.cameras.setdefault(camera, {})[short] = sample.value
                if name == "info":
                    self.info[camera] = sample.labels


async def test_a_page_is_whole_and_promtool_has_nothing_to_say(
    start: Callable[..., GatewayProcess], state: StateFolder, tmp_path: Path
) -> None:
    door = put_camera(state, test_pattern("door", site="north", inference={"detectors": ["mock"]}))
    never = put_camera(state, test_pattern("never"))
    put_camera(state, test_pattern("paused", suspend=True))
    gateway = start()
    token = worker_token(state, door)
    settings = {"camera": door.id, "attempt": 1, "pod_name": "door-pod"}
    async with worker_process(
        tmp_path, gateway_url=gateway.internal_url, token=token, source="test", **settings
    ):
        await eventually(lambda: Page(gateway).cameras["door"].get("detections_total", 0) > 1, "detections")
        page = Page(gateway)
    assert check_metrics(page.text) == ""

    assert page.types.keys() == CAMERA.keys() | SOMETIMES.keys(), "as DESIGN and docs have them"
    for name, (kind, labels) in {**CAMERA, **SOMETIMES}.items():
        assert page.types[name] == kind, name
        assert page.labels.get(name, labels) == labels, name
    assert page.labels.keys() >= CAMERA.keys()
    assert len([line for line in page.text.splitlines() if 'camera="door"' in line]) <= 30
    values = page.cameras["door"]
    assert values["inference_seconds_count"] == values["frames_inferred_total"] > 0
    assert 0 < values["inference_seconds_sum"] < values["worker_cpu_seconds_total"] * 10
    assert values["worker_connected"] == values["source_connected"] == 1 and values["picture_frozen"] == 0
    info = page.info["door"]
    assert {"site": "north", "source_type": "testPattern", "attempt": "1"}.items() <= info.items()

    assert page.cameras["never"].keys() == OF_NO_WORKER
    assert page.cameras["paused"].keys() == OF_NO_WORKER | {"suspended"}
    for name in ("never", "paused"):
        assert page.cameras[name]["worker_connected"] == 0, "a 0, not an absence"

    await eventually(lambda: Page(gateway).cameras["door"].keys() == OF_NO_WORKER, "no leftovers")
    remove_camera(state, never.id)
    await eventually(lambda: Page(gateway).cameras.keys() == {"door", "paused"}, "a deleted camera is gone")
