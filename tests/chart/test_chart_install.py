"""The chart on a real API server: accepted, kept, upgraded, removed. Needs the API level and helm."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from helm_chart import CHART, VALUES_FILES, Helm, HelmError, Object, decode
from tests.testbed.components import find
from tests.testbed.control_plane import ControlPlane
from tests.testbed.processes import wait_until

from camfleet_gateway.auth import Authenticator, Role

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(480)]

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
MONITORING = "monitoring.coreos.com"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NO_CRDS = "--set=crds.enabled=false"  # they are the whole cluster's: only their own tests install them
MakeNamespace = Callable[..., str]


@pytest.fixture(scope="module")
def monitoring_kinds(cluster: ControlPlane) -> Iterator[None]:
    """The kinds of the Prometheus Operator, by name only: test_chart_monitoring.py looks at their content."""
    kinds = {f"{kind.lower()}s": kind for kind in ("PodMonitor", "ServiceMonitor", "PrometheusRule")}
    for plural, kind in kinds.items():
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
        spec = {"group": MONITORING, "scope": "Namespaced", "names": names, "versions": [version]}
        metadata = {"name": f"{plural}.{MONITORING}"}
        api = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
        cluster.post(CRDS, {**api, "metadata": metadata, "spec": spec})
        path = f"/apis/{MONITORING}/v1/{plural}"
        wait_until(lambda path=path: cluster.client.get(path).is_success, f"the API to serve {plural}")
    yield
    for plural in kinds:
        cluster.delete(f"{CRDS}/{plural}.{MONITORING}")


@pytest.mark.usefixtures("monitoring_kinds")
@pytest.mark.parametrize("file", VALUES_FILES, ids=lambda file: file.stem.removesuffix("-values"))
def test_the_api_server_takes_every_object(
    live_helm: Helm, cluster: ControlPlane, make_namespace: MakeNamespace, file: Path
) -> None:
    namespace = make_namespace(RESTRICTED)
    for extra in yaml.safe_load(file.read_text()).get("watchNamespaces", ()):
        if cluster.get(f"/api/v1/namespaces/{extra}") is None:
            cluster.create_namespace(extra)
    shown = live_helm("install", "eye", CHART, "-n", namespace, "--dry-run=server", "-f", file)
    manifest = shown.partition("MANIFEST:\n")[2].partition("\nNOTES:")[0]
    # Helm itself sends nothing in a dry run; the API server says what it thinks of each object here.
    warnings = "--warnings-as-errors"
    said = cluster.kubectl(
        "create",
        "--dry-run=server",
        "--validate=strict",
        warnings,
        "-f",
        "-",
        stdin=manifest,
    )
    assert said.count("(server dry run)") == len([o for o in yaml.safe_load_all(manifest) if o])


def test_pods_are_admitted_under_restricted_pod_security(
    live_helm: Helm, cluster: ControlPlane, make_namespace: MakeNamespace
) -> None:
    namespace = make_namespace(RESTRICTED)
    live_helm("install", "camfleet", CHART, "-n", namespace, NO_CRDS)
    path = f"/api/v1/namespaces/{namespace}/pods"
    wait_until(lambda: len(cluster.items(path)) == 3, "two operators and a gateway")
    for pod in cluster.items(path):
        volumes = [next(iter(v.keys() - {"name"})) for v in pod["spec"]["volumes"]]
        assert "projected" in volumes, "the ServiceAccount's token is mounted where the pod asks for it"
        assert "hostPath" not in volumes
        assert pod["spec"]["serviceAccountName"] in ("camfleet-operator", "camfleet-gateway")
    live_helm("uninstall", "camfleet", "-n", namespace)


# ── Tokens ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_token_of_the_first_install_is_kept(
    live_helm: Helm, cluster: ControlPlane, make_namespace: MakeNamespace, tmp_path: Path
) -> None:
    namespace = make_namespace()
    secret = f"/api/v1/namespaces/{namespace}/secrets/camfleet-viewer-tokens"
    live_helm("install", "camfleet", CHART, "-n", namespace, NO_CRDS)
    first = data_of(cluster, secret)
    assert list(first) == ["admin-token", "tokens.yaml"]
    token = decode(first["admin-token"])
    assert re.fullmatch(r"cft_[A-Za-z0-9]{43}", token)

    # The gateway knows it, and only its hash.
    (tmp_path / "tokens.yaml").write_text(decode(first["tokens.yaml"]))
    principal = Authenticator(tmp_path / "tokens.yaml").viewer(token)
    assert principal is not None and principal.role is Role.ADMIN
    assert token not in decode(first["tokens.yaml"])

    live_helm("upgrade", "camfleet", CHART, "-n", namespace, NO_CRDS)
    assert data_of(cluster, secret) == first

    # A token that somebody has added by hand stays as well.
    more = decode(first["tokens.yaml"]) + "\n- {name: lobby, role: viewer, sha256: " + "0" * 64 + "}\n"
    cluster.patch(secret, {"stringData": {"tokens.yaml": more}})
    live_helm("upgrade", "camfleet", CHART, "-n", namespace, NO_CRDS)
    assert decode(data_of(cluster, secret)["tokens.yaml"]) == more

    # Hashes that are given replace it, and the clear token is gone with them.
    entries = [{"name": "me", "role": "admin", "sha256": hashlib.sha256(b"mine").hexdigest()}]
    given = f"--set-json=viewerTokens.tokens={json.dumps(entries)}"
    live_helm("upgrade", "camfleet", CHART, "-n", namespace, NO_CRDS, given)
    assert list(data_of(cluster, secret)) == ["tokens.yaml"]
    live_helm("uninstall", "camfleet", "-n", namespace)
    assert cluster.get(secret) is None


def test_two_installs_have_different_tokens(
    live_helm: Helm, cluster: ControlPlane, make_namespace: MakeNamespace
) -> None:
    tokens = set()
    for _ in range(2):
        namespace = make_namespace()  # the same release name: cluster-scoped names must not collide
        live_helm("install", "camfleet", CHART, "-n", namespace, NO_CRDS)
        secret = f"/api/v1/namespaces/{namespace}/secrets/camfleet-viewer-tokens"
        tokens.add(data_of(cluster, secret)["admin-token"])
    assert len(tokens) == 2


# ── CRDs ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def no_crds(cluster: ControlPlane) -> Iterator[None]:
    remove_crds(cluster)
    yield
    remove_crds(cluster)


@pytest.mark.usefixtures("no_crds")
def test_crds_come_are_upgraded_and_stay(
    live_helm: Helm, cluster: ControlPlane, make_namespace: MakeNamespace, tmp_path: Path
) -> None:
    namespace = make_namespace()
    # An older chart, whose CRD lacks a field that today's has.
    older = shutil.copytree(CHART, tmp_path / "older")
    for file in (older / "files" / "crds").glob("*_cameras.yaml"):
        crd = yaml.safe_load(file.read_text())
        del fields_of(crd)["site"]
        file.write_text(yaml.safe_dump(crd))
    live_helm("install", "camfleet", older, "-n", namespace)
    assert "site" not in fields_of(crd_of(cluster))

    live_helm("upgrade", "camfleet", CHART, "-n", namespace)
    assert "site" in fields_of(crd_of(cluster))
    shipped = yaml.safe_load((CHART / "files" / "crds" / "camfleet.io_cameras.yaml").read_text())
    assert fields_of(crd_of(cluster)).keys() == fields_of(shipped).keys()

    camera = {"metadata": {"name": "hello"}, "spec": {"source": {"testPattern": {}}}}
    path = f"/apis/camfleet.io/v1alpha1/namespaces/{namespace}/cameras"
    wait_until(lambda: cluster.client.get(path).is_success, "the API to serve cameras")
    cluster.post(path, {"apiVersion": "camfleet.io/v1alpha1", "kind": "Camera", **camera})
    live_helm("uninstall", "camfleet", "-n", namespace)
    assert cluster.get(f"{path}/hello") is not None, "uninstalling the chart must not remove the cameras"

    # Installed again it finds them, and without `keep` it takes them away.
    live_helm("install", "camfleet", CHART, "-n", namespace, "--set=crds.keep=false")
    assert cluster.get(f"{path}/hello") is not None
    live_helm("uninstall", "camfleet", "-n", namespace)
    wait_until(lambda: cluster.get(f"{CRDS}/cameras.camfleet.io") is None, "the CRD to go")


@pytest.mark.usefixtures("no_crds")
def test_crds_that_somebody_else_applied_are_left_alone(
    live_helm: Helm, cluster: ControlPlane, make_namespace: MakeNamespace
) -> None:
    cluster.kubectl("apply", "--server-side", "-f", str(CHART / "files" / "crds"))
    namespace = make_namespace()
    with pytest.raises(HelmError, match="invalid ownership metadata"):
        live_helm("install", "camfleet", CHART, "-n", namespace)
    live_helm("uninstall", "camfleet", "-n", namespace, "--ignore-not-found")
    live_helm("install", "camfleet", CHART, "-n", namespace, "--take-ownership")
    assert crd_of(cluster)["metadata"]["annotations"]["meta.helm.sh/release-name"] == "camfleet"


# ── The newcomer ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("no_crds")
def test_the_notes_can_be_followed(
    live_helm: Helm, cluster: ControlPlane, make_namespace: MakeNamespace
) -> None:
    """What Helm prints is run, but for the waits, which need nodes."""
    namespace = make_namespace()
    notes = live_helm("install", "eye", CHART, "-n", namespace).partition("NOTES:\n")[2]
    assert notes.startswith("NOTE: no weights"), "what to know comes first"
    (apply,) = re.findall(r"^kubectl apply .*?^YAML$", notes, re.MULTILINE | re.DOTALL)
    (token,) = re.findall(r"^kubectl .* get secret .*$", notes, re.MULTILINE)
    path = f"/apis/camfleet.io/v1alpha1/namespaces/{namespace}/cameras"
    wait_until(lambda: cluster.client.get(path).is_success, "the API to serve cameras")
    assert "camera.camfleet.io/hello created" in shell(cluster, apply)
    assert shell(cluster, token).startswith("cft_")
    assert shell(cluster, f"kubectl -n {namespace} get camera hello -o name")
    (forward,) = re.findall(r"port-forward (\S+) 8080:8080", notes)
    assert cluster.kubectl("-n", namespace, "get", forward, "-o=name")
    (status,) = re.findall(r"rollout status (.*)", notes)
    assert cluster.kubectl("-n", namespace, "get", *status.split(), "-o=name").count("deployment.apps/") == 2


def test_notes_warn_first(live_helm: Helm, make_namespace: MakeNamespace) -> None:
    namespace = make_namespace()

    def notes(*values: str) -> str:
        sets = [f"--set={value}" for value in values]
        return live_helm(
            "install", "eye", CHART, "-n", namespace, "--dry-run=server", NO_CRDS, *sets
        ).partition("NOTES:\n")[2]

    assert "WARNING: crds.enabled is false" in notes()
    assert "WARNING: worker.inference.detectors has yunet" in notes("worker.inference.detectors={yunet}")
    assert "weights" not in notes("worker.models.baked=true")
    assert "WARNING: worker.gpu.mode is Required" in notes("worker.gpu.mode=Required")
    assert "WARNING: the ingress has no TLS" in notes("ingress.enabled=true", "ingress.hosts={a.example.com}")
    assert "http://a.example.com/" in notes("ingress.enabled=true", "ingress.hosts={a.example.com}")


# ── Helpers ─────────────────────────────────────────────────────────────────────────────────────────────


def shell(cluster: ControlPlane, script: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={
            **os.environ,
            "KUBECONFIG": str(cluster.kubeconfig),
            "PATH": f"{find('kubectl').parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def data_of(cluster: ControlPlane, secret: str) -> dict[str, str]:
    found = cluster.get(secret)
    assert found is not None
    return dict(sorted(found["data"].items()))


def crd_of(cluster: ControlPlane) -> Object:
    found = cluster.get(f"{CRDS}/cameras.camfleet.io")
    assert found is not None
    return found


def fields_of(crd: Object) -> Object:
    """Fields of the spec, in the CRD's schema."""
    (version,) = crd["spec"]["versions"]
    fields: Object = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return fields


def remove_crds(cluster: ControlPlane) -> None:
    for name in ("cameras.camfleet.io", "cameraprofiles.camfleet.io"):
        path = f"{CRDS}/{name}"
        cluster.delete(path)
        wait_until(lambda path=path: cluster.get(path) is None, f"{name} to go")
