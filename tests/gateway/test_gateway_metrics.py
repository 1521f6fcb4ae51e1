"""The metrics: their names, their text, their bounds, and that thousands of cameras delay nobody."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import httpx
from gateway_clients import FakeViewer, eventually
from prometheus_client.parser import text_string_to_metric_families

from camfleet_gateway.channel import Channel
from camfleet_gateway.clock import Clock
from camfleet_gateway.metrics import FAMILIES, camera_chunks, escape
from camfleet_gateway.telemetry import Telemetry
from camfleet_protocol.camera import Camera
from camfleet_protocol.messages import FrameCounts, SourceState, SourceStats, Stats, WorkerHello
from support.gateway_process import GatewayProcess, test_pattern

CAMERA = {
    "camfleet_camera_info", "camfleet_camera_worker_connected", "camfleet_camera_source_connected",
    "camfleet_camera_last_frame_timestamp_seconds", "camfleet_camera_last_inference_timestamp_seconds",
    "camfleet_camera_frames_captured_total", "camfleet_camera_frames_inferred_total",
    "camfleet_camera_frames_encoded_total", "camfleet_camera_frames_published_total",
    "camfleet_camera_frames_dropped_total", "camfleet_camera_source_reconnects_total",
    "camfleet_camera_source_errors_total", "camfleet_camera_inference_seconds_sum",
    "camfleet_camera_inference_seconds_count", "camfleet_camera_detections_total",
    "camfleet_camera_worker_cpu_seconds_total", "camfleet_camera_worker_resident_memory_bytes",
    "camfleet_camera_worker_gpu_memory_bytes", "camfleet_camera_viewers", "camfleet_camera_picture_frozen",
    "camfleet_camera_events_dropped_total",
}  # fmt: skip
SOMETIMES = {"camfleet_camera_suspended"}
"""Of a camera that is paused."""
GATEWAY = {
    "camfleet_gateway_time_seconds", "camfleet_gateway_viewers", "camfleet_gateway_frames_sent_total",
    "camfleet_gateway_frames_skipped_total", "camfleet_gateway_bytes_sent_total",
    "camfleet_gateway_sessions_refused_total", "camfleet_gateway_event_loop_lag_seconds",
    "camfleet_gateway_events_pending", "camfleet_gateway_workers_without_outbox",
    "camfleet_gateway_galleries_outdated", "camfleet_gateway_gallery_bytes_sent_total",
    "camfleet_gateway_alerts_total", "camfleet_gateway_webhook_deliveries_total",
    "camfleet_gateway_webhook_messages",
}  # fmt: skip
ONCE_HAPPENED = {
    "camfleet_gateway_sessions_refused_total", "camfleet_gateway_alerts_total",
    "camfleet_gateway_webhook_deliveries_total", "camfleet_gateway_webhook_messages",
}  # fmt: skip


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples; the parser refuses what Prometheus would."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


class Worker:
    """As much of a worker as a channel needs."""

    hello = WorkerHello(camera="a.b")

    def __init__(self, stats: Stats) -> None:
        self.telemetry = Telemetry(Clock())
        self.telemetry.update(stats)

    def demand(self, demand: object) -> None:
        pass

    def configure(self, configure: object) -> None:
        pass

    def command(self, name: str) -> None:
        pass

    def leave(self, code: int, reason: str, *, retry: bool) -> None:
        pass


def channel(name: str, stats: Stats | None) -> Channel:
    made = Channel(f"default.{name}", 1, clock=Clock(), linger_seconds=1)
    made.set_camera(test_pattern(name, site="north"))
    if stats is not None:
        made.connect(Worker(stats))  # type: ignore[arg-type]
    return made


FULL = Stats(
    source=SourceStats(state=SourceState.CONNECTED, errors={f"e{n:02}": 1 for n in range(16)}),
    frames=FrameCounts(captured=5, dropped={f"d{n:02}": n for n in range(16)}),
    detections={"face": 3, "motion": 1, "object": 1, "person": 1, **{f"k{n:02}": 1 for n in range(12)}},
    last_frame_ns=1,
    gpu_bytes=1 << 30,
)


def test_a_worker_cannot_make_more_than_thirty_series() -> None:
    found = samples("".join(camera_chunks([channel("door", FULL)])))
    assert len(found) == 30, "as the docs promise, with a GPU and every kind of trouble"
    assert {name for name, _ in found} == CAMERA
    labels = frozenset({("namespace", "default"), ("camera", "door")})
    dropped = {k: v for k, v in found.items() if k[0] == "camfleet_camera_frames_dropped_total"}
    assert sum(dropped.values()) == sum(range(16)), "what has no series of its own counts as other"
    assert found[("camfleet_camera_detections_total", labels | {("kind", "face")})] == 3
    assert found[("camfleet_camera_detections_total", labels | {("kind", "other")})] == 13


def test_without_a_worker_there_is_a_zero_and_no_leftovers() -> None:
    found = samples("".join(camera_chunks([channel("door", None)])))
    assert {name for name, _ in found} == {
        "camfleet_camera_info", "camfleet_camera_worker_connected", "camfleet_camera_viewers",
    }  # fmt: skip
    labels = frozenset({("namespace", "default"), ("camera", "door")})
    assert found[("camfleet_camera_worker_connected", labels)] == 0


def test_a_paused_camera_is_marked() -> None:
    door = channel("door", None)
    paused = test_pattern("door")
    door.set_camera(paused.model_copy(update={"spec": paused.spec.model_copy(update={"suspend": True})}))
    found = samples("".join(camera_chunks([door, channel("gate", None)])))
    marked = {key: value for key, value in found.items() if key[0] == "camfleet_camera_suspended"}
    assert marked == {
        ("camfleet_camera_suspended", frozenset({("namespace", "default"), ("camera", "door")})): 1
    }


def test_only_the_families_asked_for() -> None:
    names = frozenset({"camfleet_camera_viewers", "camfleet_camera_inference_seconds", "camfleet_unknown"})
    found = samples("".join(camera_chunks([channel("door", FULL)], names)))
    assert {name for name, _ in found} == {
        "camfleet_camera_viewers", "camfleet_camera_inference_seconds_sum",
        "camfleet_camera_inference_seconds_count",
    }  # fmt: skip
    assert not list(camera_chunks([channel("door", FULL)], frozenset({"camfleet_unknown"})))


async def test_a_scrape_of_some_families(gateway: GatewayProcess, door: Camera, publish: Any) -> None:
    asked = [
        "camfleet_gateway_time_seconds", "camfleet_gateway_frames_sent_total",
        "camfleet_camera_worker_connected", "camfleet_camera_inference_seconds_sum", "camfleet_nothing",
    ]  # fmt: skip
    async with publish(door), httpx.AsyncClient(timeout=60) as http:
        for url in (gateway.internal_url, gateway.viewer_url):
            answer = await http.get(f"{url}/metrics", params=[("name[]", name) for name in asked])
            assert {name for name, _ in samples(answer.text)} <= {
                *asked, "camfleet_camera_inference_seconds_count",
            }  # fmt: skip
            assert samples(answer.text).keys() >= {(asked[0], frozenset())}
            assert 'camfleet_camera_worker_connected{namespace="default",camera="door"} 1' in answer.text
        none = await http.get(f"{gateway.internal_url}/metrics", params={"name[]": "camfleet_nothing"})
        assert none.status_code == 200 and not samples(none.text)


def test_label_values_are_escaped() -> None:
    assert escape('a"b\\c\nd') == 'a\\"b\\\\c\\nd'


def test_no_chunk_holds_up_the_loop() -> None:
    """5,000 cameras: the pieces are small. The bound is generous; it guards against one piece for all."""
    channels = [channel(f"cam-{n}", FULL if n % 2 else None) for n in range(5000)]
    worst, start, count = 0.0, time.thread_time(), 0
    for _ in camera_chunks(channels):
        now = time.thread_time()
        worst, start, count = max(worst, now - start), now, count + 1
    assert count > len(FAMILIES) * 5
    assert worst < 0.5


async def test_metrics_of_a_running_gateway(gateway: GatewayProcess, door: Camera, publish: Any) -> None:
    async with publish(door) as worker, FakeViewer.running(gateway.viewer_url, "door") as viewer:
        await worker.demand(lambda d: d.plain, "plain")
        for _ in range(5):
            seq = await worker.send()
            await eventually(lambda seq=seq: seq in viewer.seqs(), "the picture")
        async with httpx.AsyncClient(timeout=60) as http:

            async def told() -> bool:
                text = (await http.get(f"{gateway.internal_url}/metrics")).text
                return (
                    "\ncamfleet_camera_last_frame_timestamp_seconds{" in text
                    and "\ncamfleet_camera_detections_total{" in text
                )

            await eventually(told, "the worker's statistics")
            answers = [await http.get(f"{url}/metrics") for url in (gateway.internal_url, gateway.viewer_url)]
        for answer in answers:
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            found = samples(answer.text)
            names = {name for name, _ in found}
            assert GATEWAY - names <= ONCE_HAPPENED
            assert CAMERA - names <= {
                "camfleet_camera_source_errors_total", "camfleet_camera_worker_gpu_memory_bytes",
            }  # fmt: skip
            labels = frozenset({("namespace", "default"), ("camera", "door")})
            assert found[("camfleet_camera_worker_connected", labels)] == 1
            assert found[("camfleet_camera_source_connected", labels)] == 1
            assert found[("camfleet_camera_viewers", labels)] == 1
            assert found[("camfleet_gateway_viewers", frozenset({("kind", "v1")}))] == 1
            assert found[("camfleet_gateway_frames_sent_total", frozenset({("kind", "v1")}))] == 5
            now = found[("camfleet_gateway_time_seconds", frozenset())]
            last = found[("camfleet_camera_last_frame_timestamp_seconds", labels)]
            assert 0 <= now - last < 60
            info = next(key for key in found if key[0] == "camfleet_camera_info")
            assert dict(info[1])["source_type"] == "testPattern" and dict(info[1])["attempt"] == "1"


def test_the_docs_name_every_metric_and_no_other() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()
    tables = "\n".join(line for line in text.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(camfleet_\w+)`", tables)) >= CAMERA | GATEWAY
    assert set(re.findall(r"camfleet_(?!operator_)\w+", text)) == CAMERA | GATEWAY | SOMETIMES
