"""Where Camfleet is installed: the operator's pods, the gateway's, and the Lease that says who leads.

Pods are found by the labels that the chart gives them, the Lease by the operator's own arguments. Somebody
who may not look into all namespaces is taken to mean `camfleet`, unless `--install-namespace` says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from camfleet.kubectl.cluster import Cluster, Json
from camfleet.kubectl.errors import Missing, Problem, Refused
from camfleet.kubectl.target import Target
from camfleet_protocol.cluster import COMPONENT_LABEL

USUAL_NAMESPACE = "camfleet"
PROBE_PORT = 8082
INTERNAL_PORT = 8081
VIEWER_PORT = 8080
_SELECTOR = f"app.kubernetes.io/part-of=camfleet,{COMPONENT_LABEL} in (operator,gateway)"
_INSTANCE_LABEL = "app.kubernetes.io/instance"
_LEASE = "camfleet-operator"


@dataclass(frozen=True, slots=True)
class Installation:
    """One release of the chart, as far as we may see it.

    Attributes:
        namespace: Where it is.
        operators: Its operator pods, the leader first.
        gateways: Its gateway pods.
        lease_name: Name of the operator's Lease.
        lease: The Lease, if we may read it and it is there.
        lease_problem: Why it could not be read.
    """

    namespace: str
    operators: tuple[Json, ...] = ()
    gateways: tuple[Json, ...] = ()
    lease_name: str = _LEASE
    lease: Json | None = field(default=None, repr=False)
    lease_problem: str = ""

    @property
    def holder(self) -> str:
        """Name of the pod that leads, or empty."""
        return str(((self.lease or {}).get("spec") or {}).get("holderIdentity") or "")

    @property
    def lease_path(self) -> str:
        """Path of the Lease."""
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/{self.lease_name}"


def find_installation(cluster: Cluster, target: Target) -> Installation:
    """The installation that looks after the namespace that is meant.

    Raises:
        Problem: There is none, there are several, or we may not look.
    """
    pods, where = _pods(cluster, target)
    releases: dict[tuple[str, str], list[Json]] = {}
    for pod in pods:
        metadata = pod["metadata"]
        instance = (metadata.get("labels") or {}).get(_INSTANCE_LABEL, "")
        releases.setdefault((metadata["namespace"], instance), []).append(pod)
    if not releases:
        raise Problem(f"no Camfleet is installed {where}", "name its namespace with --install-namespace")
    if len(releases) > 1 and not target.all_namespaces:
        # Each installation serves namespaces of its own.
        releases = {k: v for k, v in releases.items() if _serves(v, cluster.namespace)} or releases
    if len(releases) > 1:
        names = ", ".join(sorted({namespace for namespace, _ in releases}))
        raise Problem(f"there are several installations: {names}", "name one with --install-namespace")
    ((namespace, _), found) = next(iter(releases.items()))
    return _look(cluster, namespace, found)


def container_port(pod: Json, name: str, default: int) -> int:
    """Number of a named port of a pod."""
    for container in pod["spec"].get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("name") == name:
                return int(port["containerPort"])
    return default


def running(pods: Iterable[Json]) -> list[Json]:
    """Those that run, ready ones first."""
    alive = [
        pod
        for pod in pods
        if (pod.get("status") or {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
    ]
    return sorted(alive, key=lambda pod: not pod_ready(pod))


def pod_ready(pod: Json) -> bool:
    """Whether a pod's condition Ready is true."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _pods(cluster: Cluster, target: Target) -> tuple[list[Json], str]:
    if target.install_namespace is None:
        try:
            return cluster.items("/api/v1/pods", {"labelSelector": _SELECTOR}), "in this cluster"
        except Refused as error:
            if not error.forbidden:
                raise
    namespace = target.install_namespace or USUAL_NAMESPACE
    path = f"/api/v1/namespaces/{namespace}/pods"
    return cluster.items(path, {"labelSelector": _SELECTOR}), f"in namespace {namespace}"


def _look(cluster: Cluster, namespace: str, pods: list[Json]) -> Installation:
    by_part: dict[str, list[Json]] = {"operator": [], "gateway": []}
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])):
        by_part.setdefault(pod["metadata"]["labels"][COMPONENT_LABEL], []).append(pod)
    operators = running(by_part["operator"]) or by_part["operator"]
    lease_name = next((value for pod in operators for value in _arguments(pod, "--lease-name")), _LEASE)
    found = Installation(namespace, tuple(operators), tuple(by_part["gateway"]), lease_name)
    lease, problem = None, ""
    try:
        lease = cluster.get(found.lease_path)
    except Missing:
        problem = f"there is no Lease {namespace}/{lease_name}: no operator has led yet"
    except Refused as error:
        problem = error.message
    holder = str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")
    operators.sort(key=lambda pod: pod["metadata"]["name"] != holder)
    return Installation(namespace, tuple(operators), found.gateways, lease_name, lease, problem)


def _serves(pods: Iterable[Json], namespace: str) -> bool:
    operators = [p for p in pods if p["metadata"]["labels"].get(COMPONENT_LABEL) == "operator"]
    named = {value for pod in operators for value in _arguments(pod, "--namespace")}
    return not named or namespace in named


def _arguments(pod: Json, flag: str) -> list[str]:
    arguments = [a for c in pod["spec"].get("containers") or () for a in c.get("args") or ()]
    return [str(a).removeprefix(f"{flag}=") for a in arguments if str(a).startswith(f"{flag}=")]
