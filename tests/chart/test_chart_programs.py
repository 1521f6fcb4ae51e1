"""Operator and gateway with the chart's arguments and rights: enough to work with, and every right is used.

The API server keeps an audit log of what both ask for. A kwok node plays the kubelet; the worker is a real
process with the environment and token of its pod. Needs the API level and helm.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from helm_chart import CHART, Helm, Object, decode, find_object
from monitoring.generate import documents
from tests.testbed.control_plane import ControlPlane
from tests.testbed.processes import Process, free_port, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.e2e, pytest.mark.timeout(480)]

AUDIT_POLICY: Object = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts:camfleet"]}],
}
CAMERAS = "/apis/camfleet.io/v1alpha1/namespaces/default/cameras"
CAMERA: Object = {
    "apiVersion": "camfleet.io/v1alpha1",
    "kind": "Camera",
    "metadata": {"name": "hello"},
    "spec": {"source": {"testPattern": {"width": 320, "height": 240, "fps": 10}}},
}


class Fleet:
    """The release `camfleet`, its programs run here instead of in pods."""

    def __init__(self, cluster: ControlPlane, helm: Helm, folder: Path, *values: str) -> None:
        self.cluster = cluster
        self.folder = folder
        self.audit = folder / "audit.log"
        live = Helm(helm.program, cluster.kubeconfig)
        live("install", "camfleet", CHART, "-n", "camfleet", "--create-namespace", *values)
        manifest = live("get", "manifest", "camfleet", "-n", "camfleet")
        self.objects = [document for document in yaml.safe_load_all(manifest) if document]
        self.viewers, self.internal = free_port(), free_port()
        secret = find_object(self.objects, "Secret", "camfleet-viewer-tokens")["data"]
        self.admin_token = decode(secret["admin-token"])
        (folder / "tokens.yaml").write_text(decode(secret["tokens.yaml"]))
        key = find_object(self.objects, "Secret", "camfleet-data-key")["data"]["key"]
        (folder / "data-key").write_text(decode(key))
        defaults = find_object(self.objects, "ConfigMap", "camfleet-defaults")["data"]
        (folder / "defaults.yaml").write_text(defaults["defaults.yaml"])

    def start(self, program: str, **instead: str) -> Process:
        """Start a program with the chart's arguments, but for addresses and files of this machine."""
        deployment = find_object(self.objects, "Deployment", f"camfleet-{program}")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        replaced = {name.replace("_", "-"): value for name, value in instead.items()}
        kept = [a for a in container["args"] if a.removeprefix("--").partition("=")[0] not in replaced]
        added = [f"--{name}={value}" for name, value in replaced.items()]
        kubeconfig = self._kubeconfig(deployment["spec"]["template"]["spec"]["serviceAccountName"])
        return self._run(program, [*kept, *added, f"--kubeconfig={kubeconfig}"])

    def start_worker(self, pod: Object) -> Process:
        """Run what a worker's pod would."""
        (container,) = pod["spec"]["containers"]
        work = self.folder / pod["metadata"]["name"]
        work.mkdir()
        token = self.cluster.pod_token("default", pod["metadata"]["name"], audience="camfleet-gateway")
        (work / "token").write_text(token)
        environment = {entry["name"]: entry["value"] for entry in container["env"]} | {
            "CAMFLEET_GATEWAY_URL": f"http://127.0.0.1:{self.internal}",
            "CAMFLEET_TOKEN_FILE": str(work / "token"),
            "CAMFLEET_WORK_DIR": str(work),
        }
        return self._run(pod["metadata"]["name"], container["args"], environment)

    def asked(self, account: str) -> Iterator[tuple[str, str, int]]:
        """Verb, resource and answer of every request of one of the ServiceAccounts."""
        for line in self.audit.read_text().splitlines():
            entry = json.loads(line)
            reference = entry.get("objectRef")
            if entry["user"]["username"].endswith(f":{account}") and reference is not None:
                parts = (reference["resource"], reference.get("subresource"))
                yield entry["verb"], "/".join(filter(None, parts)), entry["responseStatus"]["code"]

    def _run(self, name: str, arguments: list[str], environment: dict[str, str] | None = None) -> Process:
        program = [Path(sys.executable).parent / "camfleet", *arguments]
        return Process(program, self.folder / f"{name}.log", environment=environment)

    def _kubeconfig(self, account: str) -> Path:
        path = f"/api/v1/namespaces/camfleet/serviceaccounts/{account}/token"
        config = json.loads(self.cluster.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": self.cluster.post(path, {"spec": {}})["status"]["token"]}
        file = self.folder / f"{account}.kubeconfig"
        file.write_text(json.dumps(config))
        return file


@pytest.fixture(params=[(), ("--set=watchNamespaces={default}",)], ids=["all namespaces", "one namespace"])
def fleet(request: pytest.FixtureRequest, helm: Helm, tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "policy.json").write_text(json.dumps(AUDIT_POLICY))
    audit = [f"--audit-policy-file={tmp_path / 'policy.json'}", f"--audit-log-path={tmp_path / 'audit.log'}"]
    with ControlPlane(api_arguments=audit) as plane:
        made = Fleet(plane, helm, tmp_path, *request.param)
        # After the CRDs: a garbage collector that runs already learns of new kinds every 30 s only.
        plane.start_controller_manager()
        plane.start_scheduler()
        plane.start_kwok()
        yield made


def test_rights_and_arguments_are_enough_and_none_is_idle(fleet: Fleet) -> None:
    with ExitStack() as running:

        def keep(process: Process) -> Process:
            running.callback(process.stop)
            return process

        gateway = keep(
            fleet.start(
                "gateway",
                host="127.0.0.1",
                port=str(fleet.viewers),
                internal_host="127.0.0.1",
                internal_port=str(fleet.internal),
                tokens_file=str(fleet.folder / "tokens.yaml"),
                data_dir=str(fleet.folder / "data"),
                key_file=str(fleet.folder / "data-key"),
            )
        )
        operator = keep(
            fleet.start(
                "operator",
                gateway_metrics=f"http://127.0.0.1:{fleet.internal}/metrics",
                defaults_file=str(fleet.folder / "defaults.yaml"),
                probe_host="127.0.0.1",
                probe_port=str(probes := free_port()),
                health_seconds="1",
            )
        )
        for process, port in ((gateway, fleet.internal), (operator, probes)):
            for probe in ("livez", "readyz"):
                url = f"http://127.0.0.1:{port}/{probe}"
                wait_until(lambda url=url: answers(url), url, process=process)

        fleet.cluster.post(CAMERAS, CAMERA)
        pods = "/api/v1/namespaces/default/pods"
        wait_until(lambda: len(running_pods(fleet, pods)) == 1, "the worker's pod to run", process=operator)
        keep(fleet.start_worker(running_pods(fleet, pods)[0]))
        wait_until(lambda: reason(fleet, "hello") == "Streaming", "the camera to stream")

        pages = [
            httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
            for port in (fleet.internal, probes)
        ]
        told = {re.split(r"[{ ]", line)[0] for page in pages for line in page.splitlines()}
        shown = set(re.findall(r"\bcamfleet_\w+", " ".join(documents().values())))
        assert shown - told <= NOT_TOLD_HERE, "a dashboard shows what neither program tells"

        # What needs another pod is told in an Event.
        fleet.cluster.patch(f"{CAMERAS}/hello", {"spec": {"source": {"testPattern": {"fps": 5}}}})
        events = "/api/v1/namespaces/default/events"
        wait_until(
            lambda: "WorkerReplaced" in {event["reason"] for event in fleet.cluster.items(events)},
            "an Event about the replacement",
        )

        # What people do on the page: change, stop, add, remove.
        viewer = httpx.Client(
            base_url=f"http://127.0.0.1:{fleet.viewers}",
            headers={"Authorization": f"Bearer {fleet.admin_token}"},
            timeout=60,
        )
        with viewer:
            assert viewer.post("/cameras/hello/stream/stop").is_success
            wait_until(lambda: reason(fleet, "hello") == "Suspended", "the camera to be suspended")
            wait_until(lambda: not running_pods(fleet, pods), "its pod to be deleted")
            added = {"name": "added", "spec": CAMERA["spec"]}
            assert viewer.post("/api/cameras", json=added).is_success
            wait_until(lambda: len(running_pods(fleet, pods)) == 1, "the added camera's pod")
            assert viewer.delete("/api/cameras/added").is_success
            wait_until(lambda: not running_pods(fleet, pods), "the added camera's pod to go")

    for account in ("operator", "gateway"):
        asked = list(fleet.asked(f"camfleet-{account}"))
        refused = {(verb, resource) for verb, resource, code in asked if code in (401, 403)}
        assert refused == set(), f"{account} asks for what the chart does not grant"
        used = {(verb, resource) for verb, resource, _ in asked}
        assert granted(fleet.objects, account) - used <= NOT_SEEN_HERE


NOT_SEEN_HERE = {
    ("patch", "events"),  # only for an Event that is repeated
    ("get", "pods"),  # only before a pod is deleted that an event may have shown wrongly
    ("get", "cameras"),
    ("get", "cameraprofiles"),  # a reader of objects is expected to read one as well
}


NOT_TOLD_HERE = {
    "camfleet_camera_frames_dropped_total",  # these have a series once something happens
    "camfleet_camera_source_errors_total",
    "camfleet_camera_detections_total",
    "camfleet_camera_suspended",
    "camfleet_camera_worker_gpu_memory_bytes",
    "camfleet_gateway_sessions_refused_total",
    "camfleet_operator_frozen",
    "camfleet_operator_signals_blind",
}


def granted(objects: list[Object], program: str) -> set[tuple[str, str]]:
    """Verbs and resources of the chart's roles for a program."""
    return {
        (verb, resource)
        for item in objects
        if item["kind"] in ("Role", "ClusterRole")
        and item["metadata"]["labels"].get("app.kubernetes.io/component") == program
        for rule in item["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def running_pods(fleet: Fleet, path: str) -> list[Object]:
    return [pod for pod in fleet.cluster.items(path) if pod["status"].get("phase") == "Running"]


def reason(fleet: Fleet, name: str) -> str:
    camera: dict[str, Any] = fleet.cluster.get(f"{CAMERAS}/{name}") or {}
    conditions = {c["type"]: c["reason"] for c in camera.get("status", {}).get("conditions", ())}
    return conditions.get("Ready", "")
