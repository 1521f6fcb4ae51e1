"""Who may do what: every verb on every resource that the API server has. Needs the API level and helm.

The tables below are all that the chart grants. What is not in them is asked for as well, and must be refused.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import httpx
import pytest
from helm_chart import CHART, Helm, Object
from tests.testbed.control_plane import ControlPlane
from tests.testbed.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(480)]

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
MORE_VERBS = (
    ("", "serviceaccounts", "impersonate"),
    ("", "users", "impersonate"),
    ("", "groups", "impersonate"),
    ("", "nodes/proxy", "get"),
    ("rbac.authorization.k8s.io", "clusterroles", "escalate"),
    ("rbac.authorization.k8s.io", "clusterroles", "bind"),
    ("rbac.authorization.k8s.io", "roles", "escalate"),
    ("rbac.authorization.k8s.io", "roles", "bind"),
    ("camfleet.io", "cameras/finalizers", "update"),
)

Right = tuple[str, str, str]
"""API group, resource, verb."""


def rights(group: str, resource: str, verbs: str) -> set[Right]:
    return {(group, resource, verb) for verb in verbs.split()}


OPERATOR = {
    *rights("camfleet.io", "cameras", "get list watch"),
    *rights("camfleet.io", "cameraprofiles", "get list watch"),
    *rights("camfleet.io", "cameras/status", "patch"),
    *rights("", "pods", "get list watch create delete"),
    *rights("", "events", "create patch"),
}
OPERATOR_NODES = rights("", "nodes", "list")
"""Of the whole cluster, always: nodes have no namespace. Their Leases have: see the test of nodes."""
OPERATOR_LEASES = rights("coordination.k8s.io", "leases", "create")
"""In the release's namespace. Reading and writing one is bound to its name: see the test of the Lease."""
GATEWAY = rights("camfleet.io", "cameras", "get list watch create patch delete")
GATEWAY_CLUSTER = rights("authentication.k8s.io", "tokenreviews", "create")


@dataclass(frozen=True)
class Install:
    """Where the chart is, and the namespace of cameras that it serves, and one that is nobody's."""

    namespace: str
    cameras: str
    elsewhere: str


@pytest.fixture(scope="module")
def crds(cluster: ControlPlane) -> Iterator[None]:
    folder = str(CHART / "files" / "crds")
    cluster.kubectl("apply", "--server-side", "-f", folder)
    wait_until(
        lambda: {"cameras", "cameras/status"} <= {r for _, r in resources(cluster)}, "the API to list cameras"
    )
    yield
    cluster.kubectl("delete", "-f", folder)


@pytest.fixture(scope="module")
def clusterwide(
    helm: Helm, cluster: ControlPlane, crds: None, make_namespace: Callable[..., str]
) -> Iterator[Install]:
    release, cameras = make_namespace(), make_namespace()
    live = Helm(helm.program, cluster.kubeconfig)
    live("install", "camfleet", CHART, "-n", release, "--set=crds.enabled=false")
    yield Install(release, cameras, cameras)
    live("uninstall", "camfleet", "-n", release)


@pytest.fixture(scope="module")
def namespaced(
    helm: Helm, cluster: ControlPlane, crds: None, make_namespace: Callable[..., str]
) -> Iterator[Install]:
    release, cameras, elsewhere = make_namespace(), make_namespace(), make_namespace()
    live = Helm(helm.program, cluster.kubeconfig)
    live(
        "install",
        "camfleet",
        CHART,
        "-n",
        release,
        "--set=crds.enabled=false",
        f"--set=watchNamespaces={{{cameras}}}",
    )
    yield Install(release, cameras, elsewhere)
    live("uninstall", "camfleet", "-n", release)


# ── All that is granted ─────────────────────────────────────────────────────────────────────────────────


def test_operator_of_the_whole_cluster(cluster: ControlPlane, clusterwide: Install) -> None:
    for namespace, expected in (
        (clusterwide.cameras, OPERATOR),
        (clusterwide.namespace, OPERATOR | OPERATOR_LEASES),
        ("", OPERATOR),  # for watching all namespaces at once
    ):
        assert granted(cluster, clusterwide, "camfleet-operator", namespace) == expected | OPERATOR_NODES


def test_gateway_of_the_whole_cluster(cluster: ControlPlane, clusterwide: Install) -> None:
    for namespace in (clusterwide.cameras, clusterwide.namespace, ""):
        assert granted(cluster, clusterwide, "camfleet-gateway", namespace) == GATEWAY | GATEWAY_CLUSTER


def test_operator_of_some_namespaces(cluster: ControlPlane, namespaced: Install) -> None:
    for namespace, expected in (
        (namespaced.cameras, OPERATOR),
        (namespaced.namespace, OPERATOR_LEASES),
        (namespaced.elsewhere, set()),
        ("", set()),
    ):
        assert granted(cluster, namespaced, "camfleet-operator", namespace) == expected | OPERATOR_NODES


def test_gateway_of_some_namespaces(cluster: ControlPlane, namespaced: Install) -> None:
    assert granted(cluster, namespaced, "camfleet-gateway", namespaced.cameras) == GATEWAY | GATEWAY_CLUSTER
    for namespace in (namespaced.namespace, namespaced.elsewhere, ""):
        assert granted(cluster, namespaced, "camfleet-gateway", namespace) == GATEWAY_CLUSTER


def test_workers_may_do_nothing(cluster: ControlPlane, clusterwide: Install) -> None:
    for namespace in (clusterwide.cameras, ""):
        account = Install(clusterwide.cameras, clusterwide.cameras, "")
        assert granted(cluster, account, "default", namespace) == set()


def test_the_lease_is_one_by_name(cluster: ControlPlane, clusterwide: Install) -> None:
    account = f"system:serviceaccount:{clusterwide.namespace}:camfleet-operator"

    def may(verb: str, name: str, namespace: str = clusterwide.namespace) -> bool:
        return allowed(cluster, account, ("coordination.k8s.io", "leases", verb), namespace, name)

    assert all(may(verb, "camfleet-operator") for verb in ("get", "update"))
    assert not any(may(verb, "camfleet-operator") for verb in ("delete", "patch", "list"))
    assert not any(may(verb, "kube-scheduler") for verb in ("get", "update"))
    assert not any(
        may(verb, "camfleet-operator", clusterwide.cameras) for verb in ("get", "update", "create")
    )


def test_nodes_and_their_leases_are_listed_and_nothing_else(
    cluster: ControlPlane, clusterwide: Install, namespaced: Install, helm: Helm
) -> None:
    """How old a node's Lease is says more, and earlier, than its conditions."""
    for install in (clusterwide, namespaced):

        def verbs(resource: Right, namespace: str, install: Install = install) -> set[str]:
            account = f"system:serviceaccount:{install.namespace}:camfleet-operator"
            return {v for v in VERBS if allowed(cluster, account, (*resource[:2], v), namespace)}

        leases = ("coordination.k8s.io", "leases", "")
        assert verbs(leases, "kube-node-lease") == {"list"}
        assert verbs(leases, "kube-system") == set()
        assert verbs(("", "nodes/status", ""), "") == verbs(("", "nodes/proxy", ""), "") == set()
    off = helm.template(values={"rbac.nodes": False})
    assert not [o for o in off if o["metadata"].get("namespace") == "kube-node-lease"]
    assert not [rule for rule in rules_of(off, "operator") if "nodes" in rule["resources"]]


# ── What people see of it ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("account", "arguments", "answer"),
    [
        ("camfleet-operator", "create pods", "yes"),
        ("camfleet-operator", "patch cameras.camfleet.io --subresource=status", "yes"),
        ("camfleet-operator", "patch cameras.camfleet.io", "no"),
        ("camfleet-operator", "get secrets", "no"),
        ("camfleet-operator", "create pods --subresource=exec", "no"),
        ("camfleet-operator", "list nodes", "yes"),
        ("camfleet-operator", "get nodes", "no"),
        ("camfleet-operator", "patch nodes", "no"),
        ("camfleet-operator", "get pods --subresource=log", "no"),
        ("camfleet-operator", "get pods --subresource=proxy", "no"),
        ("camfleet-operator", "create deployments.apps", "no"),
        ("camfleet-gateway", "create tokenreviews.authentication.k8s.io", "yes"),
        ("camfleet-gateway", "delete cameras.camfleet.io", "yes"),
        ("camfleet-gateway", "patch cameras.camfleet.io --subresource=status", "no"),
        ("camfleet-gateway", "get secrets", "no"),
        ("camfleet-gateway", "list pods", "no"),
    ],
)
def test_kubectl_auth_can_i(
    cluster: ControlPlane, clusterwide: Install, account: str, arguments: str, answer: str
) -> None:
    subject = f"--as=system:serviceaccount:{clusterwide.namespace}:{account}"
    said = cluster.kubectl(
        "auth", "can-i", *arguments.split(), subject, "-n", clusterwide.cameras, check=False
    )
    assert answer in said.splitlines(), said


def test_owners_need_no_right_on_finalizers(cluster: ControlPlane, clusterwide: Install) -> None:
    """A cluster may check owner references; ours do not block, so the operator may set them as it is."""
    cameras = f"/apis/camfleet.io/v1alpha1/namespaces/{clusterwide.cameras}/cameras"
    spec = {"source": {"testPattern": {}}}
    document = {
        "apiVersion": "camfleet.io/v1alpha1",
        "kind": "Camera",
        "metadata": {"name": "owner"},
        "spec": spec,
    }
    uid = cluster.post(cameras, document)["metadata"]["uid"]
    owner = {
        "apiVersion": "camfleet.io/v1alpha1",
        "kind": "Camera",
        "name": "owner",
        "uid": uid,
        "controller": True,
    }
    pods = f"/api/v1/namespaces/{clusterwide.cameras}/pods"
    with client_of(cluster, clusterwide.namespace, "camfleet-operator") as operator:

        def create(name: str, *, block: bool) -> httpx.Response:
            metadata = {"name": name, "ownerReferences": [{**owner, "blockOwnerDeletion": block}]}
            containers = [{"name": "worker", "image": "none"}]
            return operator.post(pods, json={"metadata": metadata, "spec": {"containers": containers}})

        assert create("blocking", block=True).status_code == 403, "the check is on"
        assert create("plain", block=False).status_code == 201
        assert operator.delete(f"{pods}/plain").is_success


def test_people_with_the_clusters_roles_may_work_with_cameras(
    cluster: ControlPlane, clusterwide: Install
) -> None:
    namespace = clusterwide.cameras
    everything = set(VERBS)
    for role, expected in (("view", {"get", "list", "watch"}), ("edit", everything), ("admin", everything)):
        cluster.kubectl(
            "create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}", "-n", namespace
        )

        def verbs(resource: str, role: str = role) -> set[str]:
            return {
                v
                for v in VERBS
                if allowed(cluster, role, ("camfleet.io", resource, v), namespace, users=True)
            }

        wait_until(lambda verbs=verbs, want=expected: verbs("cameras") == want, f"{role} to have the rights")
        assert verbs("cameraprofiles") == expected
        assert verbs("cameras/status") == set(), "only the operator writes the status"


def test_every_right_is_explained(helm: Helm) -> None:
    """docs/rbac.md has a table for each program, with the same rules as the chart."""
    text = (CHART.parents[1] / "docs" / "rbac.md").read_text()
    objects = helm.template()
    for program in ("operator", "gateway"):
        section = re.search(rf"^## The {program}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section, program
        rows = re.findall(r"^\| `([^`]+)` \| ([a-z, ]+) \| \S", section.group(1), re.MULTILINE)
        documented = {(name, tuple(verbs.split(", "))) for name, verbs in rows}
        assert documented == {
            (name if not group else f"{name}.{group}", tuple(rule["verbs"]))
            for rule in rules_of(objects, program)
            for group, name in product(rule["apiGroups"], rule["resources"])
        }


# ── Helpers ─────────────────────────────────────────────────────────────────────────────────────────────


def resources(cluster: ControlPlane) -> list[tuple[str, str]]:
    """Group and name of every resource and subresource that the API server has."""
    found = cluster.client.get("/apis").json()["groups"]
    groups = [(group["name"], f"/apis/{group['preferredVersion']['groupVersion']}") for group in found]
    return [
        (group, item["name"])
        for group, path in [("", "/api/v1"), *groups]
        for item in cluster.client.get(path).json()["resources"]
    ]


def granted(cluster: ControlPlane, install: Install, account: str, namespace: str) -> set[Right]:
    """All that a ServiceAccount of the install may do in a namespace, or in the whole cluster for ""."""
    asked = [(group, name, verb) for (group, name), verb in product(resources(cluster), VERBS)]
    subject = f"system:serviceaccount:{install.namespace}:{account}"
    nobody = f"system:serviceaccount:{install.namespace}:nobody"
    return {
        right
        for right in dict.fromkeys([*asked, *MORE_VERBS])
        if allowed(cluster, subject, right, namespace)
        # Every account may ask about itself.
        and not allowed(cluster, nobody, right, namespace)
    }


def allowed(
    cluster: ControlPlane, user: str, right: Right, namespace: str, name: str = "", *, users: bool = False
) -> bool:
    """What `kubectl auth can-i --as` asks."""
    group, resource, verb = right
    resource, _, subresource = resource.partition("/")
    attributes = {
        "group": group,
        "resource": resource,
        "subresource": subresource,
        "verb": verb,
        "namespace": namespace,
        "name": name,
    }
    groups = ["system:authenticated"]
    if not users:
        groups += ["system:serviceaccounts", f"system:serviceaccounts:{user.split(':')[2]}"]
    review = {"spec": {"user": user, "groups": groups, "resourceAttributes": attributes}}
    answer = cluster.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def client_of(cluster: ControlPlane, namespace: str, account: str) -> httpx.Client:
    """A client that is a ServiceAccount."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    token = cluster.post(path, {"spec": {}})["status"]["token"]
    return httpx.Client(
        base_url=cluster.url,
        verify=ssl.create_default_context(cafile=str(cluster.folder / "pki" / "apiserver.crt")),
        headers={"Authorization": f"Bearer {token}"},
    )


def rules_of(objects: list[Object], program: str) -> list[Object]:
    return [
        rule
        for item in objects
        if item["kind"] in ("Role", "ClusterRole")
        and item["metadata"]["labels"].get("app.kubernetes.io/component") == program
        for rule in item["rules"]
    ]
