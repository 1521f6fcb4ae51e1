"""The chart without a cluster: what it renders, and which values it takes. Needs helm."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_chart import (
    CHART,
    VALUES_FILES,
    Helm,
    HelmError,
    Object,
    container_of,
    decode,
    find_object,
    parse,
    pod_of,
)
from pydantic import ValidationError

from camfleet_gateway.auth import TokensFile
from camfleet_gateway.settings import GatewaySettings
from camfleet_operator.cluster.settings import OperatorSettings
from camfleet_protocol import __version__
from camfleet_protocol.camera import CameraProfileSpec, GpuSpec
from camfleet_protocol.settings import Settings, merge

ROOT = CHART.parents[1]
VALUES: Object = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: Object = json.loads((CHART / "values.schema.json").read_text())

every_values_file = pytest.mark.parametrize(
    "file", VALUES_FILES, ids=lambda file: file.name.split("-values")[0]
)


# ── The files agree ─────────────────────────────────────────────────────────────────────────────────────


def test_the_copy_of_the_crds_and_the_table_of_values_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "charts" / "refresh.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"run `make chart`:\n{done.stdout}{done.stderr}"


def test_crds_are_rendered_as_they_are(helm: Helm) -> None:
    rendered = [o for o in helm.template() if o["kind"] == "CustomResourceDefinition"]
    sources = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
    assert {o["metadata"]["name"]: o["spec"] for o in rendered} == {
        o["metadata"]["name"]: o["spec"] for o in sources
    }
    for item in rendered:
        assert item["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert not [o for o in helm.template(values={"crds.enabled": False}) if "Definition" in o["kind"]]


def test_versions_are_the_programs_own() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    assert sorted(value_paths(VALUES, SCHEMA)) == sorted(schema_paths(SCHEMA))


def test_the_schema_is_closed_and_described() -> None:
    for path, node in schema_nodes(SCHEMA):
        assert node.get("description", "").endswith("."), path
        if "properties" in node:
            assert node["additionalProperties"] is False, path


def value_paths(values: Object, schema: Object, path: str = "") -> Iterator[str]:
    """Paths of the values, as deep as the schema names them."""
    for key, value in values.items():
        node = schema["properties"].get(key, {})
        if "properties" in node:
            yield from value_paths(value, node, f"{path}.{key}")
        else:
            yield f"{path}.{key}"


def schema_paths(schema: Object, path: str = "") -> Iterator[str]:
    for key, node in schema["properties"].items():
        if "properties" in node:
            yield from schema_paths(node, f"{path}.{key}")
        elif f"{path}.{key}" != ".global":  # Helm adds it by itself.
            yield f"{path}.{key}"


def schema_nodes(schema: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    for key, node in schema.get("properties", {}).items():
        yield f"{path}.{key}", node
        yield from schema_nodes(node, f"{path}.{key}")


# ── What is rendered ────────────────────────────────────────────────────────────────────────────────────


@every_values_file
def test_lint(helm: Helm, file: Path) -> None:
    helm("lint", "--strict", "--quiet", CHART, "--values", file)


@every_values_file
def test_operator_and_gateway_understand_their_arguments(helm: Helm, file: Path) -> None:
    objects = helm.template("--values", file)
    for kind, model in (("operator", OperatorSettings), ("gateway", GatewaySettings)):
        container = container_of(objects, kind)
        assert container["args"][0] == kind
        parse(model, container["args"][1:])


def test_operator_settings(helm: Helm) -> None:
    values = {"watchNamespaces": ["north", "south"], "imagePullSecrets": [{"name": "registry"}]}
    settings = parse(
        OperatorSettings, container_of(helm.template(values=values, release="eye"), "operator")["args"][1:]
    )
    assert settings.namespace == ("north", "south")
    assert (settings.lease_namespace, settings.lease_name) == ("cameras", "eye-camfleet-operator")
    assert settings.gateway_url == "http://eye-camfleet-gateway.cameras.svc:8081"
    assert settings.gateway_metrics == ("http://eye-camfleet-gateway-peers.cameras.svc:8081/metrics",)
    assert settings.worker_image == f"ghcr.io/camfleet/worker:{__version__}"
    assert settings.image_pull_secret == ("registry",)
    assert (settings.write_rate, settings.write_burst) == (100, 200)
    assert (settings.probe_host, settings.probe_port) == ("0.0.0.0", 8082)
    assert settings.models_claim is None


def test_gateway_settings(helm: Helm) -> None:
    objects = helm.template("--values", CHART / "ci" / "ingress-values.yaml")
    settings = parse(GatewaySettings, container_of(objects, "gateway")["args"][1:])
    assert (settings.host, settings.port) == ("0.0.0.0", 8080)
    assert (settings.internal_host, settings.internal_port) == ("0.0.0.0", 8081)
    assert settings.authentication
    assert settings.allowed_host == ("cameras.example.com", "cams.example.com")
    # The ingress's own pages may connect: by https where it has a certificate.
    assert settings.allowed_origin == (
        "https://wall.example.com",
        "https://cameras.example.com",
        "http://cams.example.com",
    )


@every_values_file
def test_defaults_are_the_spec_of_a_profile(helm: Helm, file: Path) -> None:
    CameraProfileSpec.model_validate(defaults_of(helm.template("--values", file)))


def test_defaults_of_the_chart_are_those_of_the_code(helm: Helm) -> None:
    """But for two: motion where no weights are known, and no wait for a GPU that is not there."""
    spec = CameraProfileSpec.model_validate(defaults_of(helm.template(values={"worker.models.baked": True})))
    assert resolved(spec) == Settings()
    assert spec.gpu == GpuSpec(mode="Disabled", resource_name="nvidia.com/gpu", count=1)
    without = CameraProfileSpec.model_validate(defaults_of(helm.template()))
    assert without.inference is not None and without.inference.detectors == ("motion",)
    chosen = defaults_of(helm.template(values={"worker.inference.detectors": ["yunet"]}))
    assert chosen["inference"]["detectors"] == ["yunet"]


def test_defaults_carry_what_is_set(helm: Helm) -> None:
    spec = defaults_of(helm.template("--values", CHART / "ci" / "gpu-values.yaml"))
    assert spec["gpu"] == {"mode": "Preferred", "resourceName": "nvidia.com/gpu.shared", "count": 1}
    # Numbers of YAML are quantities, which are text.
    assert spec["resources"] == {
        "requests": {"cpu": "1", "memory": "1Gi"},
        "limits": {"cpu": "1.5", "memory": "3Gi"},
    }
    assert spec["placement"]["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert spec["site"] == "north"
    assert spec["inference"]["fps"] == 7.5


def test_changed_defaults_restart_the_operator_and_nothing_else(helm: Helm) -> None:
    before, after = helm.template(), helm.template(values={"worker.stream.fps": 3})
    assert pod_of(before, "operator") != pod_of(after, "operator")
    assert pod_of(before, "gateway") == pod_of(after, "gateway")


@every_values_file
def test_pods_are_closed(helm: Helm, file: Path) -> None:
    for kind in ("operator", "gateway"):
        pod = pod_of(helm.template("--values", file), kind)["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"] and container["resources"]["limits"]["memory"]
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)
        assert "env" not in container, "nothing is passed by the environment, secrets least of all"


def test_only_viewers_are_exposed(helm: Helm) -> None:
    for file in ("loadbalancer-values.yaml", "nodeport-values.yaml"):
        services = [o for o in helm.template("--values", CHART / "ci" / file) if o["kind"] == "Service"]
        exposed = [s for s in services if s["spec"]["type"] != "ClusterIP"]
        assert [[port["port"] for port in s["spec"]["ports"]] for s in exposed] == [[8080]]
    (ingress,) = [
        o for o in helm.template("--values", CHART / "ci" / "ingress-values.yaml") if o["kind"] == "Ingress"
    ]
    ports = {
        path["backend"]["service"]["port"]["name"]
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    }
    assert ports == {"http"}


def test_the_gateway_gets_hashes_and_not_the_token(helm: Helm) -> None:
    (volume,) = [v for v in pod_of(helm.template(), "gateway")["spec"]["volumes"] if v["name"] == "tokens"]
    assert volume["secret"]["items"] == [{"key": "tokens.yaml", "path": "tokens.yaml"}]


def test_given_hashes_are_the_tokens_and_renders_are_equal(helm: Helm) -> None:
    file = CHART / "ci" / "tokens-values.yaml"
    objects = helm.template("--values", file)
    assert objects == helm.template("--values", file, again=True), "GitOps would apply it again and again"
    secret = find_object(objects, "Secret", "camfleet-viewer-tokens")
    assert list(secret["data"]) == ["tokens.yaml"]
    tokens = TokensFile.model_validate(yaml.safe_load(decode(secret["data"]["tokens.yaml"]))).tokens
    assert [(token.name, token.role) for token in tokens] == [("ops", "admin"), ("lobby-screen", "viewer")]
    existing = helm.template("--values", CHART / "ci" / "existing-secret-values.yaml")
    assert not [o for o in existing if o["kind"] == "Secret"]


def test_names_fit_whatever_the_release_is_called(helm: Helm) -> None:
    objects = helm.template(values={"gateway.service.type": "NodePort"}, release="r" * 53)
    names = [(o["kind"], o["metadata"]["name"]) for o in objects]
    assert len(set(names)) == len(names)
    # Names of roles may be longer, and have the release's namespace in them where others share theirs.
    assert all(len(name) <= 63 for _, name in names if ":" not in name)


def test_no_selector_of_the_chart_matches_worker_pods(helm: Helm) -> None:
    """A worker's labels (name camfleet, component worker) match no selector of ours."""
    for item in helm.template():
        selector = item.get("spec", {}).get("selector", {})
        selector = selector.get("matchLabels", selector)
        assert not selector or selector["app.kubernetes.io/component"] in ("operator", "gateway")


# ── What is refused ─────────────────────────────────────────────────────────────────────────────────────


def token(**fields: str) -> dict[str, str]:
    return {"name": "me", "role": "admin", "sha256": "0" * 64, **fields}


BAD = [
    ({"gateway.replicas": 2}, "at '/gateway/replicas': maximum: got 2, want 1"),
    ({"gateway.replicas": 0}, "at '/gateway/replicas': minimum: got 0, want 1"),
    ({"operator.replicas": "two"}, "at '/operator/replicas': got string, want integer"),
    (
        {"worker.gpu.mode": "Maybe"},
        "at '/worker/gpu/mode': value must be one of 'Required', 'Preferred', 'Disabled'",
    ),
    ({"worker.gpu.mod": "Required"}, "at '/worker/gpu': additional properties 'mod' not allowed"),
    ({"wroker": {}}, "additional properties 'wroker' not allowed"),
    ({"worker.resources.requests.cpu": "lots"}, "at '/worker/resources/requests/cpu'"),
    ({"worker.stream.quality": 101}, "at '/worker/stream/quality': maximum: got 101, want 100"),
    ({"worker.inference.fps": 0}, "at '/worker/inference/fps': minimum: got 0, want 0.1"),
    ({"worker.image.digest": "latest"}, "at '/worker/image/digest'"),
    ({"worker.site": "North Wing"}, "at '/worker/site'"),
    ({"watchNamespaces": "north"}, "at '/watchNamespaces': got string, want array"),
    ({"watchNamespaces": ["north", "north"]}, "at '/watchNamespaces': items at 0 and 1 are equal"),
    ({"ingress.enabled": True}, "at '/ingress/hosts': minItems: got 0, want 1"),
    ({"gateway.allowedOrigins": ["cameras.example.com"]}, "at '/gateway/allowedOrigins/0'"),
    (
        {"viewerTokens.tokens": [{"name": "me", "role": "root", "sha256": "0" * 64}]},
        "'viewer', 'operator', 'admin'",
    ),
    (
        {"viewerTokens.tokens": [{"name": "me", "role": "admin", "sha256": "cft_secret"}]},
        "/viewerTokens/tokens/0/sha256",
    ),
    ({"log.level": "verbose"}, "at '/log/level': value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
    ({"imagePullSecrets": ["registry"]}, "at '/imagePullSecrets/0': got string, want object"),
]


@pytest.mark.parametrize(
    ("values", "message"), BAD, ids=lambda part: next(iter(part)) if isinstance(part, dict) else ""
)
def test_wrong_values_are_refused(helm: Helm, values: dict[str, Any], message: str) -> None:
    with pytest.raises(HelmError) as refused:
        helm.template(values=values)
    assert message in str(refused.value)


# Defaults that no operator would start with: one word or number too much, in each block.
BAD_DEFAULTS: list[tuple[str, Any]] = [
    ("inference.enabled", "yes"),
    ("inference.detectors", ["YuNet"]),
    ("inference.detectors", ["a"] * 9),
    ("inference.fps", 0.05),
    ("inference.fps", 121),
    ("inference.confidence", 1.1),
    ("inference.backend", "tensorrt"),
    ("inference.engine", "my_engine"),
    ("inference.faceRecognition.enabled", 1),
    ("stream.fps", 0),
    ("stream.width", -1),
    ("stream.width", 640.5),
    ("stream.quality", 0),
    ("health.stallTimeoutSeconds", 0),
    ("health.firstFrameTimeoutSeconds", 601),
    ("health.reassignment", "Always"),
    ("gpu.mode", "required"),
    ("gpu.resourceName", "gpu"),
    ("gpu.count", 0),
    ("gpu.count", 17),
    ("resources.requests.cpu", "half"),
    ("resources.requests.memory", "1GiB"),
    ("resources.limits", {"not a name": "1"}),
    ("placement.nodeSelector", {"zone": "a b"}),
    ("placement.nodeSelector", {"-zone": "a"}),
    ("placement.tolerations", [{"operator": "Equal"}]),
    ("placement.tolerations", [{"key": "gpu", "operator": "Exists", "value": "x"}]),
    ("placement.tolerations", [{"key": "gpu", "tolerationSeconds": 5}]),
    ("placement.tolerations", [{"key": "gpu", "effect": "NoRun"}]),
    ("placement.affinity", {"gpuAffinity": {}}),
    ("placement.priorityClassName", "Very High"),
    ("site", "North"),
]


@pytest.mark.parametrize(("path", "value"), BAD_DEFAULTS)
def test_defaults_that_the_operator_refuses_are_refused_by_helm(helm: Helm, path: str, value: Any) -> None:
    spec: Any = value
    for part in reversed(path.split(".")):
        spec = {part: spec}
    with pytest.raises(ValidationError):
        CameraProfileSpec.model_validate(spec)
    with pytest.raises(HelmError, match=re.escape(f"'/worker/{path.replace('.', '/')}")):
        helm.template(values={f"worker.{path}": value})


# ── Helpers ─────────────────────────────────────────────────────────────────────────────────────────────


def defaults_of(objects: list[Object]) -> Object:
    (found,) = [o for o in objects if o["kind"] == "ConfigMap" and "defaults.yaml" in o["data"]]
    return dict(yaml.safe_load(found["data"]["defaults.yaml"]))


def resolved(spec: CameraProfileSpec) -> Settings:
    given = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return Settings.model_validate(merge({}, given))
