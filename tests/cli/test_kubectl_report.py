"""`kubectl camfleet report`: what helps is in it, no secret is, it is bounded, and it says what it lacks."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubectl_site import GATEWAY, LEADER, STANDBY, PluginSite, ago, conditions

from camfleet.kubectl.bundle import Bundle
from camfleet.kubectl.clean import clean, clean_line

pytestmark = [pytest.mark.cluster]

CANARY = "c4n4ry"
READ = [
    {"apiGroups": ["camfleet.io"], "resources": ["cameras", "cameraprofiles"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["pods", "pods/log", "events"], "verbs": ["get", "list"]},
]
READ_INSTALLATION = [
    {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get"]},
]


def unpack(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        assert all(member.name.startswith("report/") for member in members)
        found = {m.name.removeprefix("report/"): archive.extractfile(m) for m in members}
        return {name: file.read().decode() for name, file in found.items() if file is not None}


def everywhere(site: PluginSite) -> None:
    """Put the canary wherever a person, a webhook or a library could put a password."""
    url = f"rtsp://192.0.2.10/live?user=admin&password={CANARY}&k={CANARY}"
    site.camera(
        "gate",
        conditions("False", "SourceError", f"cannot open rtsp://admin:{CANARY}@192.0.2.10/ (token={CANARY})"),
        spec={"source": {"rtsp": {"url": url, "credentialsSecretRef": {"name": "gate-login"}}}},
        metadata={
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": json.dumps({"url": url}),
                "example.com/note": f"the password is {CANARY}",
                "camfleet.io/note": f"Authorization: Bearer {CANARY}{CANARY}",
            }
        },
        lastReassignment={"time": ago(9), "reason": "WorkerFault", "message": f"at {url}"},
    )
    secret = {"username": "YWRtaW4=", "password": "YzRuNHJ5"}
    for namespace in (site.name, site.install):
        site.plane.post(
            f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "gate-login"}, "data": secret}
        )
    site.pod(
        site.name,
        "gate-pod-1",
        "worker",
        labels={"app.kubernetes.io/component": "worker", "app.kubernetes.io/managed-by": "camfleet-operator"},
        container={
            "args": ["worker", f"--header=X-Key: {CANARY}", "--password", CANARY, "--password-file=/etc/pw"],
            "env": [
                {"name": "CAMFLEET_SOURCE_JSON", "value": json.dumps({"rtsp": {"url": url}})},
                {"name": "CAMFLEET_TOKEN", "value": CANARY},
                {"name": "HTTP_PROXY", "value": f"http://me:{CANARY}@proxy"},
                {"name": "DSN", "value": CANARY},
            ],
            "livenessProbe": {"httpGet": {"port": 1, "httpHeaders": [{"name": "X-Key", "value": CANARY}]}},
        },
    )
    for name in ("gate-pod-1", LEADER, STANDBY, GATEWAY):
        site.kubelet.logs[name] = (
            f"opening {url}\n"
            + json.dumps(
                {"message": f'sent {{"password": "{CANARY}"}} to {url}', "camera": "gate", "token": CANARY}
            )
            + f"\nGET /feed?ticket={CANARY} Authorization: Basic {CANARY}{CANARY}\nlast line of {name}\n"
        )
    site.plane.post(
        f"/api/v1/namespaces/{site.name}/events",
        {
            "metadata": {"name": "gate.1", "annotations": {"example.com/x": CANARY}},
            "involvedObject": {"kind": "Camera", "namespace": site.name, "name": "gate"},
            "type": "Warning",
            "reason": "MoveHeld",
            "message": f"secret={CANARY} at {url}",
        },
    )
    site.explain.unhealthy(
        f"{site.name}.gate", message=f"{url} refused admin:{CANARY}@x password: {CANARY}"[:60] + url
    )
    site.explain.fleet["evaluator"]["url"] = f"https://me:{CANARY}@prometheus?token={CANARY}"
    site.explain.metrics = f'camfleet_x{{url="{url}"}} 1\n'


def test_no_canary_gets_into_the_bundle(site: PluginSite) -> None:
    site.installed()
    everywhere(site)
    result = site.run("report", "-o", str(site.folder / "report.tar.gz"))
    assert result.exit_code == 0, result.output
    files = unpack(site.folder / "report.tar.gz")
    leaks = {
        name: text[max(0, text.find(CANARY) - 80) :][:120] for name, text in files.items() if CANARY in text
    }
    assert leaks == {}
    assert "YzRuNHJ5" not in "".join(files.values())
    assert (site.folder / "report.tar.gz").stat().st_mode & 0o077 == 0

    # And what helps is in it.
    (camera,) = json.loads(files["cameras.json"])
    assert camera["spec"]["source"]["rtsp"]["url"] == "rtsp://192.0.2.10/live?***"
    assert camera["spec"]["source"]["rtsp"]["credentialsSecretRef"] == {"name": "gate-login"}
    assert "cannot open rtsp://***@192.0.2.10/" in camera["status"]["conditions"][0]["message"]
    (worker,) = json.loads(files["worker-pods.json"])
    arguments = worker["spec"]["containers"][0]["args"]
    assert arguments == ["worker", "--header=***", "--password", "***", "--password-file=/etc/pw"]
    assert json.loads(files["explain.json"])["cameras"][0]["fault"] == "Worker"
    assert json.loads(files["events.json"])[0]["reason"] == "MoveHeld"
    assert json.loads(files["status.json"])["notReady"] == 1
    assert files[f"logs/{LEADER}.log"].endswith(f"last line of {LEADER}\n")
    assert files[f"logs/workers/{site.name}.gate.log"].endswith("last line of gate-pod-1\n")
    assert f"metrics/{GATEWAY}.txt" in files
    assert json.loads(files["nodes.json"])
    manifest = json.loads(files["manifest.json"])
    assert {entry["name"] for entry in manifest["files"]} | {"manifest.json"} == set(files)
    assert manifest["missing"] == []


def test_with_few_rights_it_says_what_is_missing(site: PluginSite) -> None:
    site.installed()
    everywhere(site)
    user = site.user(*READ, install_rules=tuple(READ_INSTALLATION))
    file = site.folder / "report.tar.gz"
    result = site.run("report", "-o", str(file), kubeconfig=user)
    assert result.exit_code == 0, result.output
    files = unpack(file)
    missing = {entry["what"] for entry in json.loads(files["manifest.json"])["missing"]}
    assert missing == {"nodes", "the nodes' Leases"}
    assert "not in it: nodes: not allowed:" in result.stdout
    nobody = site.run("report", "-o", str(site.folder / "other.tar.gz"), kubeconfig=site.user())
    assert nobody.exit_code == 0
    assert "not in it: cameras: not allowed" in nobody.stdout
    again = site.run("report", "-o", str(file))
    assert (again.exit_code, "exists already" in again.stderr) == (2, True)


def test_the_role_of_the_docs_is_enough_to_see_reasons(site: PluginSite) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "rbac.md").read_text()
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    site.installed()
    everywhere(site)
    reader = site.user(*READ, install_rules=tuple(yaml.safe_load(block)["rules"]))
    for arguments in (
        ("status",),
        ("explain", "gate"),
        ("logs", "gate", "--operator", "--gateway"),
        ("logs", "gate"),
    ):
        result = site.run(*arguments, kubeconfig=reader)
        assert result.exit_code in (0, 1), result.output
        assert "not allowed" not in result.output
        assert "not known:" not in result.output
    granted = ("auth", "can-i", "get", "pods/proxy", "-n", site.install, f"--kubeconfig={reader}")
    assert site.plane.kubectl(*granted).strip() == "yes"


def test_it_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "report.tar.gz"
    bundle = Bundle(path, most=40_000, most_each=10_000)
    bundle.add_json("cameras.json", "all", [{"name": f"cam-{n}", "x": "y" * 50} for n in range(1000)])
    bundle.add_lines("a.log", "a log", (f"line {n} " + "z" * 40 for n in range(1000)))
    bundle.add_text("m.txt", "a page", "q" * 100_000)
    bundle.add_text("n.txt", "a page", "q" * 100_000)
    bundle.add_text("o.txt", "a page", "q" * 100_000)
    bundle.close()
    files = unpack(path)
    manifest: dict[str, Any] = {entry["name"]: entry for entry in json.loads(files["manifest.json"])["files"]}
    assert sum(len(text.encode()) for name, text in files.items() if name != "manifest.json") <= 40_000
    cameras = json.loads(files["cameras.json"])
    assert len(cameras) + manifest["cameras.json"]["dropped"] == 1000
    assert files["a.log"].splitlines()[-1].startswith("line 999 ")
    assert manifest["a.log"]["dropped"] + len(files["a.log"].splitlines()) == 1000
    assert manifest["m.txt"]["cut"] is True
    assert "cut off" in files["m.txt"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"password": "x", "secretName": "login"}, {"password": "***", "secretName": "login"}),
        ({"token": {"path": "t"}}, {"token": {"path": "t"}}),
        (
            {"annotations": {"a/b": "x", "camfleet.io/move": "t"}},
            {"annotations": {"a/b": "***", "camfleet.io/move": "t"}},
        ),
        (
            {"args": ["--token=x", "--token-file=f", "-n", "a"]},
            {"args": ["--token=***", "--token-file=f", "-n", "a"]},
        ),
        ({"metadata": {"managedFields": [1], "name": "n"}}, {"metadata": {"name": "n"}}),
        ([{"name": "A", "value": "x"}], [{"name": "A", "value": "***"}]),
        ([{"name": "CAMFLEET_ATTEMPT", "value": "3"}], [{"name": "CAMFLEET_ATTEMPT", "value": "3"}]),
        ("see https://h/p#frag and rtsp://u:p@h/1;x=2", "see https://h/p?*** and rtsp://***@h/1?***"),
    ],
)
def test_objects_are_cleaned(before: Any, after: Any) -> None:
    assert clean(before) == after


def test_a_line_that_is_json_stays_json() -> None:
    line = json.dumps({"message": json.dumps({"password": "x"}), "n": 1})
    assert json.loads(json.loads(clean_line(line))["message"]) == {"password": "***"}
