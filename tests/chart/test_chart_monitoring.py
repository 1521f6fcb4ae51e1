"""Prometheus, health and monitoring in the chart: arguments, mounted files, monitors, rules, dashboards.

Needs helm and promtool.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_chart import CHART, VALUES_FILES, Helm, HelmError, Object, container_of, find_object, parse, pod_of

from camfleet_operator.cluster.balance import node_load
from camfleet_operator.cluster.health import promql
from camfleet_operator.cluster.health.queries import read_queries
from camfleet_operator.cluster.settings import OperatorSettings
from support.promtool import promtool

ROOT = CHART.parents[1]
FILES = "/etc/camfleet-prometheus"


def ci(name: str) -> Path:
    return CHART / "ci" / f"{name}-values.yaml"


def settings_of(objects: list[Object]) -> OperatorSettings:
    found: OperatorSettings = parse(OperatorSettings, container_of(objects, "operator")["args"][1:])
    return found


# ── Prometheus and health: the operator's arguments ─────────────────────────────────────────────────────


def test_the_chart_changes_no_default_of_the_operator(helm: Helm) -> None:
    settings, code = settings_of(helm.template()), OperatorSettings()
    for name in (*HEALTH, *PROMETHEUS):
        assert getattr(settings, name) == getattr(code, name), name


def test_every_setting_of_the_operator_has_a_value(helm: Helm) -> None:
    """Or is listed here, for `operator.extraArgs`."""
    given = set()
    for file in VALUES_FILES:
        arguments = container_of(helm.template("--values", file), "operator")["args"][1:]
        given |= {
            a.partition("=")[0].removeprefix("--").removeprefix("no-").replace("-", "_") for a in arguments
        }
    assert set(OperatorSettings.model_fields) - given == {
        "kubeconfig", "identity", "health_seconds", "rollout_first", "rollout_soak_seconds", "lease_seconds",
    }  # fmt: skip


HEALTH = (
    "dry_run", "unhealthy_readings", "moves_per_second", "moves_burst", "node_moves_per_second",
    "freeze_share", "node_lease_stale_seconds", "relief", "load_high", "load_low", "load_seconds",
    "watch_nodes",
)  # fmt: skip
PROMETHEUS = tuple(
    name for name in OperatorSettings.model_fields if name.startswith(("prometheus_", "scrape_", "queries_"))
)


def test_health(helm: Helm) -> None:
    settings = settings_of(helm.template("--values", ci("servicemonitor")))
    assert [getattr(settings, name) for name in HEALTH] == [
        False, 5, 0.5, 5, 0, 1, 15, False, 0.8, 0.5, 30, True,
    ]  # fmt: skip
    dry = settings_of(helm.template("--values", ci("dry-run")))
    assert dry.dry_run and not dry.watch_nodes


def test_prometheus(helm: Helm) -> None:
    settings = settings_of(helm.template("--values", ci("prometheus")))
    assert {name: getattr(settings, name) for name in PROMETHEUS} == {
        "prometheus_url": "https://thanos-query.monitoring.svc:9091/api",
        "prometheus_bearer_token_file": Path(f"{FILES}/token"),
        "prometheus_username": None,
        "prometheus_password_file": None,
        "prometheus_ca_file": Path(f"{FILES}/ca.crt"),
        "prometheus_cert_file": Path(f"{FILES}/tls.crt"),
        "prometheus_key_file": Path(f"{FILES}/tls.key"),
        "prometheus_insecure": False,
        "prometheus_header": ("X-Scope-OrgID: cameras|north",),
        "prometheus_timeout_seconds": 2.5,
        "scrape_seconds": 15,
        "queries_file": Path(f"{FILES}/queries.yaml"),
    }
    basic = settings_of(helm.template("--values", ci("servicemonitor")))
    assert basic.prometheus_username == "camfleet"
    assert basic.prometheus_password_file == Path(f"{FILES}/password")
    own = {"prometheus.url": "https://p", "prometheus.serviceAccountToken": True}
    token = settings_of(helm.template(values=own)).prometheus_bearer_token_file
    assert token == Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@pytest.mark.parametrize("name", ["prometheus", "servicemonitor"])
def test_every_file_that_is_named_is_mounted(helm: Helm, name: str) -> None:
    objects = helm.template("--values", ci(name))
    settings, pod = settings_of(objects), pod_of(objects, "operator")["spec"]
    (volume,) = [v for v in pod["volumes"] if v["name"] == "prometheus"]
    mounted = set()
    for source in volume["projected"]["sources"]:
        ((kind, body),) = source.items()
        if body["name"] == "camfleet-queries":
            mounted |= find_object(objects, "ConfigMap", "camfleet-queries")["data"].keys()
        else:
            assert kind == "secret" or body["name"] == "internal-ca"
            mounted |= {item["path"] for item in body["items"]}
    (mount,) = [m for m in container_of(objects, "operator")["volumeMounts"] if m["name"] == "prometheus"]
    assert mount == {"name": "prometheus", "mountPath": FILES, "readOnly": True}
    named = {getattr(settings, field) for field in PROMETHEUS if field.endswith("_file")} - {None}
    assert named == {Path(FILES, path) for path in mounted}
    secrets = {o["metadata"]["name"] for o in objects if o["kind"] == "Secret"}
    assert secrets == {"camfleet-viewer-tokens", "camfleet-data-key"}


def test_nothing_is_mounted_without_prometheus(helm: Helm) -> None:
    values = {"prometheus.bearerTokenSecret.name": "token", "prometheus.queries": {"selector": 'a="b"'}}
    objects = helm.template(values=values)
    assert settings_of(objects).prometheus_bearer_token_file is None
    assert [v["name"] for v in pod_of(objects, "operator")["spec"]["volumes"]] == ["defaults", "tmp"]


def test_queries_are_ones_that_the_operator_has(helm: Helm, tmp_path: Path) -> None:
    objects = helm.template("--values", ci("prometheus"))
    file = tmp_path / "queries.yaml"
    file.write_text(find_object(objects, "ConfigMap", "camfleet-queries")["data"]["queries.yaml"])
    found = read_queries(file, known={*promql.NAMES, *node_load.NAMES})
    assert found["selector"] == 'cluster="east"'
    assert found["gateway_time"].startswith("max by (instance)")


def test_changed_queries_restart_the_operator(helm: Helm) -> None:
    given = ("--values", ci("prometheus"))
    before = pod_of(helm.template(*given), "operator")
    after = pod_of(helm.template(*given, values={"prometheus.queries.selector": 'a="b"'}), "operator")
    assert before["metadata"]["annotations"] != after["metadata"]["annotations"]
    assert before["spec"] == after["spec"]


# ── Monitors ────────────────────────────────────────────────────────────────────────────────────────────


def monitors(objects: list[Object], kind: str) -> dict[str, Object]:
    return {
        o["metadata"]["labels"]["app.kubernetes.io/component"]: o
        for o in objects
        if o["apiVersion"] == "monitoring.coreos.com/v1" and o["kind"] == kind
    }


def test_nothing_of_the_prometheus_operator_is_made_unasked(helm: Helm) -> None:
    assert not [o for o in helm.template() if o["apiVersion"].startswith("monitoring.coreos.com/")]


def test_pod_monitors(helm: Helm) -> None:
    objects = helm.template("--values", ci("kube-prometheus-stack"))
    found = monitors(objects, "PodMonitor")
    assert found.keys() == {"gateway", "operator"}
    for program, monitor in found.items():
        assert monitor["metadata"]["labels"]["release"] == "monitoring"
        assert monitor["metadata"]["annotations"] == {"example.com/owner": "cameras"}
        spec = monitor["spec"]
        assert (
            spec["selector"]["matchLabels"].items() <= pod_of(objects, program)["metadata"]["labels"].items()
        )
        assert spec["namespaceSelector"] == {"matchNames": ["cameras"]}
        (endpoint,) = spec["podMetricsEndpoints"]
        ports = {port["name"] for port in container_of(objects, program)["ports"]}
        assert endpoint["port"] in ports
        check_endpoint(endpoint, "2500ms")
        assert endpoint["metricRelabelings"][0]["action"] == "drop"


def test_service_monitors(helm: Helm) -> None:
    objects = helm.template("--values", ci("servicemonitor"))
    found = monitors(objects, "ServiceMonitor")
    assert found.keys() == {"gateway", "operator"}
    services = [o for o in objects if o["kind"] == "Service"]
    for program, monitor in found.items():
        assert monitor["metadata"]["labels"]["team"] == "platform", "its own labels win"
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        (service,) = [s for s in services if wanted <= s["metadata"]["labels"].items()]
        assert service["spec"]["publishNotReadyAddresses"], "who is not ready is of interest as well"
        selector = service["spec"]["selector"].items()
        assert selector <= pod_of(objects, program)["metadata"]["labels"].items()
        (endpoint,) = monitor["spec"]["endpoints"]
        (port,) = service["spec"]["ports"]
        assert endpoint["port"] == port["name"]
        assert port["targetPort"] in {p["name"] for p in container_of(objects, program)["ports"]}
        check_endpoint(endpoint, "10s")
        assert "sampleLimit" not in monitor["spec"]


def check_endpoint(endpoint: Object, interval: str) -> None:
    assert endpoint["path"] == "/metrics"
    assert endpoint["honorLabels"] is True, "a camera's namespace is not the gateway's"
    assert endpoint["interval"] == endpoint["scrapeTimeout"] == interval


def test_the_sample_limit_leaves_room_for_five_thousand_cameras(helm: Helm) -> None:
    objects = helm.template("--values", ci("kube-prometheus-stack"))
    assert monitors(objects, "PodMonitor")["gateway"]["spec"]["sampleLimit"] > 5000 * 30 * 1.2


# ── Rules and dashboards ────────────────────────────────────────────────────────────────────────────────


def test_rules(helm: Helm, tmp_path: Path) -> None:
    source = yaml.safe_load((ROOT / "monitoring" / "rules" / "camfleet.rules.yaml").read_text())
    (made,) = [
        o for o in helm.template("--values", ci("kube-prometheus-stack")) if o["kind"] == "PrometheusRule"
    ]
    assert made["metadata"]["labels"]["release"] == "monitoring"
    alerts = [(a, b) for a, b in zip(rules(source), rules(made["spec"]), strict=True) if "alert" in a]
    assert len(alerts) > 5
    for ours, theirs in alerts:
        assert theirs["labels"] == {**ours["labels"], "team": "cameras"}
        page = f"{ours['alert']}.md"
        assert ours["annotations"]["runbook_url"].endswith(f"/blob/main/docs/runbooks/{page}")
        assert theirs["annotations"]["runbook_url"] == f"https://runbooks.example.com/camfleet/{page}"
        theirs["labels"], theirs["annotations"] = ours["labels"], ours["annotations"]
    assert made["spec"]["groups"] == source["groups"], "all else is as it is"
    plain = helm.template(values={"monitoring.rules.enabled": True})
    assert next(o for o in plain if o["kind"] == "PrometheusRule")["spec"]["groups"] == source["groups"]
    promtool("check", "rules", written(tmp_path / "rules.yaml", made["spec"]))


def rules(document: Object) -> list[Object]:
    return [rule for group in document["groups"] for rule in group["rules"]]


def test_dashboards(helm: Helm) -> None:
    objects = helm.template("--values", ci("kube-prometheus-stack"))
    maps = [o for o in objects if o["kind"] == "ConfigMap" and "-grafana-" in o["metadata"]["name"]]
    sources = {path.stem: path.read_text() for path in (ROOT / "monitoring" / "dashboards").glob("*.json")}
    assert {o["metadata"]["name"] for o in maps} == {f"camfleet-grafana-{name}" for name in sources}
    for made in maps:
        name = made["metadata"]["name"].removeprefix("camfleet-grafana-")
        ((file, text),) = made["data"].items()
        assert file == f"camfleet-{name}.json"
        assert json.loads(text) == json.loads(sources[name])
        assert len(text.encode()) < 2**20, "a ConfigMap holds no more"
        assert made["metadata"]["namespace"] == "kube-system"
        assert made["metadata"]["labels"]["dashboards"] == "yes"
        assert made["metadata"]["annotations"]["grafana_folder"] == "Cameras"
    (plain, *_) = [
        o
        for o in helm.template(values={"monitoring.dashboards.enabled": True})
        if "-grafana-" in o["metadata"]["name"]
    ]
    assert plain["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert plain["metadata"]["namespace"] == "cameras"


def test_the_scrape_configuration_in_the_docs_finds_gateway_and_operator(helm: Helm, tmp_path: Path) -> None:
    """With the labels that Kubernetes' discovery gives to the chart's pods: once each, and nothing else."""
    text = (ROOT / "docs" / "monitoring.md").read_text()
    (block,) = [b.partition("```")[0] for b in text.split("```yaml\n")[1:] if b.startswith("scrape_configs:")]
    document = yaml.safe_load(block)
    found = list(discovered(helm.template()))
    for job in document["scrape_configs"]:
        assert job["honor_labels"] is True and job["scrape_interval"] == "10s"
        # Debian's promtool knows no Kubernetes.
        assert job.pop("kubernetes_sd_configs") == [{"role": "pod", "namespaces": {"names": ["camfleet"]}}]
        job["static_configs"] = found
    file = written(tmp_path / "prometheus.yml", document)
    promtool("check", "config", "--syntax-only", file)
    targets = {}
    for job in document["scrape_configs"]:
        listed = promtool("check", "service-discovery", "--timeout=1s", file, job["job_name"])
        kept = [entry["labels"] for entry in json.loads(listed) if entry.get("labels")]
        targets[job["job_name"]] = [(labels["__address__"], labels["namespace"]) for labels in kept]
    assert targets == {
        "camfleet-gateway": [("10.0.0.1:8081", "camfleet")],
        "camfleet-operator": [("10.0.0.1:8082", "camfleet")],
    }


def discovered(objects: list[Object]) -> Iterator[Object]:
    """Every port of every pod of the chart and of a worker, as Prometheus' discovery tells of it."""
    worker: Object = {"labels": {"app.kubernetes.io/part-of": "camfleet"}, "ports": [{"containerPort": 80}]}
    pods = [worker]
    for program in ("gateway", "operator"):
        labels = pod_of(objects, program)["metadata"]["labels"]
        pods.append({"labels": labels, "ports": container_of(objects, program)["ports"]})
    for pod in pods:
        for port in pod["ports"]:
            labels = {
                "__meta_kubernetes_namespace": "camfleet",
                "__meta_kubernetes_pod_name": "some-pod",
                "__meta_kubernetes_pod_container_port_name": port.get("name", ""),
            }
            for name, value in pod["labels"].items():
                labels["__meta_kubernetes_pod_label_" + re.sub(r"\W", "_", name)] = value
            yield {"targets": [f"10.0.0.1:{port['containerPort']}"], "labels": labels}


def written(path: Path, document: Object) -> Path:
    path.write_text(yaml.safe_dump(document))
    return path


# ── What is refused ─────────────────────────────────────────────────────────────────────────────────────

BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"prometheus.bearerTokenSecret.name": "a", "prometheus.serviceAccountToken": True},
        "set one of bearerTokenSecret, serviceAccountToken and basicAuthSecret",
    ),
    ({"prometheus.basicAuthSecret.name": "a"}, "set name and username, or neither"),
    ({"prometheus.basicAuthSecret.username": "a"}, "set name and username, or neither"),
    ({"prometheus.tls.ca.secret": "a", "prometheus.tls.ca.configMap": "b"}, "set either secret or configMap"),
    ({"health.loadLow": 0.9}, "loadLow must be less than loadHigh"),
    (
        {"monitoring.podMonitor.enabled": True, "monitoring.serviceMonitor.enabled": True},
        "enable either podMonitor or serviceMonitor",
    ),
    ({"prometheus.url": "prometheus:9090"}, "at '/prometheus/url'"),
    ({"prometheus.url": "http://user:password@prometheus"}, "at '/prometheus/url'"),
    ({"prometheus.headers": {"Bad name": "a"}}, "/prometheus/headers"),
    ({"prometheus.headers": {"X-A": "a\nb"}}, "at '/prometheus/headers/X-A'"),
    ({"prometheus.token": "secret"}, "additional properties 'token' not allowed"),
    ({"prometheus.scrapeSeconds": 0}, "at '/prometheus/scrapeSeconds'"),
    ({"health.freezeShare": 0}, "at '/health/freezeShare'"),
    ({"health.freezeShare": 1.1}, "at '/health/freezeShare'"),
    ({"health.movesBurst": 0}, "at '/health/movesBurst'"),
    ({"health.unhealthyReadings": 2.5}, "at '/health/unhealthyReadings'"),
    ({"monitoring.rules.runbookUrl": "https://runbooks.example.com"}, "at '/monitoring/rules/runbookUrl'"),
]


@pytest.mark.parametrize(
    ("values", "message"), BAD, ids=lambda part: "" if isinstance(part, str) else next(iter(part))
)
def test_wrong_values_are_refused(helm: Helm, values: dict[str, Any], message: str) -> None:
    with pytest.raises(HelmError) as refused:
        helm.template(values=values)
    assert message in str(refused.value)
