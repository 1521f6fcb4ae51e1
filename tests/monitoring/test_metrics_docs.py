"""docs/metrics.md is what the programs declare, and what they declare is what they say."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
from monitoring.metrics_page import PAGE, SECTIONS, Described, written

from camfleet_gateway.channel import Channel
from camfleet_gateway.clock import Clock
from camfleet_gateway.metrics import camera_chunks
from camfleet_gateway.telemetry import Telemetry
from camfleet_operator.cluster.metrics import OperatorMetrics
from camfleet_protocol.local import StateFolder
from camfleet_protocol.messages import FrameCounts, SourceState, SourceStats, Stats, WorkerHello
from support.gateway_process import GatewayProcess, put_camera, test_pattern

FULL = Stats(
    source=SourceStats(state=SourceState.CONNECTED, errors={"auth_failed": 1}),
    frames=FrameCounts(captured=5, dropped={"window_full": 1}),
    detections={"face": 3},
    gpu_bytes=1,
)


class Worker:
    """As much of a worker as a channel needs."""

    hello = WorkerHello(camera="default.door")

    def __init__(self) -> None:
        self.telemetry = Telemetry(Clock())
        self.telemetry.update(FULL)

    def demand(self, demand: object) -> None:
        pass

    def configure(self, configure: object) -> None:
        pass


def declared(text: str) -> dict[str, tuple[str, str]]:
    """Type and help of every family of a page; those of the process are prometheus_client's own."""
    helps = dict(re.findall(r"^# HELP (camfleet_\w+) (.*)$", text, re.MULTILINE))
    kinds = dict(re.findall(r"^# TYPE (camfleet_\w+) (\w+)$", text, re.MULTILINE))
    assert helps.keys() == kinds.keys()
    return {name: (kinds[name], helps[name].replace("\\\\", "\\")) for name in kinds}


def documented(*sections: str) -> dict[str, Described]:
    metrics = [metric for name in sections for metric in SECTIONS[name]()]
    family = re.compile(r"_(sum|count)$")
    return {(family.sub("", m.names[0]) if m.kind == "summary" else m.names[0]): m for m in metrics}


def labels_of(text: str) -> dict[str, set[str]]:
    """Names of labels of each sample's metric."""
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(camfleet_\w+?)(?:_bucket)?(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def test_the_page_is_up_to_date() -> None:
    assert written(PAGE.read_text()) == PAGE.read_text(), "run `make docs`"


def test_a_real_gateway_declares_what_the_page_says(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    state.create()
    put_camera(state, test_pattern("door"))
    webhooks = tmp_path / "webhooks.yaml"
    webhooks.write_text("webhooks: [{name: hook, url: 'http://127.0.0.1:9/'}]")
    gateway = GatewayProcess(state, webhooks_file=str(webhooks))
    try:
        text = httpx.get(f"{gateway.internal_url}/metrics", timeout=15).text
    finally:
        gateway.kill()
    expected = documented("cameras", "gateway")
    assert declared(text) == {name: (metric.kind, metric.text) for name, metric in expected.items()}
    own = {name: labels for name, labels in labels_of(text).items() if name.startswith("camfleet_gateway_")}
    # Nobody was turned away yet.
    assert own == {
        name: set(metric.labels)
        for name, metric in expected.items()
        if name.startswith("camfleet_gateway_") and name != "camfleet_gateway_sessions_refused_total"
    }


def test_a_camera_has_the_labels_that_the_page_says() -> None:
    paused = test_pattern("door")
    channel = Channel("default.door", 1, clock=Clock(), linger_seconds=1)
    channel.set_camera(paused.model_copy(update={"spec": paused.spec.model_copy(update={"suspend": True})}))
    channel.connect(Worker())  # type: ignore[arg-type]
    expected = {
        name: {"namespace", "camera", *metric.labels}
        for metric in SECTIONS["cameras"]()
        for name in metric.names
    }
    assert labels_of("".join(camera_chunks([channel]))) == expected


def test_the_operator_declares_what_the_page_says() -> None:
    metrics = OperatorMetrics()
    expected = documented("operator")
    text = metrics.page().decode()
    assert declared(text) == {name: (metric.kind, metric.text) for name, metric in expected.items()}
    metrics.reconciled("unchanged", 0.1)
    metrics.judged({"Healthy": 1})
    metrics.frozen("fleet", True)
    metrics.blind("NoGateway")
    said = labels_of(metrics.page().decode())
    for name, metric in expected.items():
        of_metric = said.get(name) or said.get(f"{name}_sum")
        assert of_metric is None or of_metric - {"le"} == set(metric.labels), name
