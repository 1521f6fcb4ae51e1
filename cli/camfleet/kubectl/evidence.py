"""What the operator says of its decisions: `GET /explain` of the leader, through the API server.

The operator answers on its probe port, which no Service shows. `pods/proxy` in the namespace of the
installation is the one right that this takes; without it a command says so and goes on with what the Cameras
say of themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from camfleet.kubectl.cluster import Cluster, Json
from camfleet.kubectl.errors import Problem, Refused
from camfleet.kubectl.installation import PROBE_PORT, Installation, container_port, find_installation, running
from camfleet.kubectl.target import Target

PodPage = Callable[[Cluster, str, str, int, str], tuple[int, bytes]]
"""Asks a page of a pod: cluster, namespace, pod, port, path → status, body."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a command uses of the world besides the API server; tests put their own in.

    Attributes:
        pod_page: See `PodPage`.
        browse: Opens a page in a browser and tells whether it could.
    """

    pod_page: PodPage = Cluster.pod_page
    browse: Callable[[str], bool] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        document: The JSON; empty if there is none.
        pod: `NAMESPACE/POD` that answered.
        problem: Why there is no document, or why it is not the leader's.
        hint: What helps.
    """

    document: Json = field(default_factory=dict)
    pod: str = ""
    problem: str = ""
    hint: str = ""

    def __bool__(self) -> bool:
        return bool(self.document)


def ask(
    cluster: Cluster, target: Target, tools: Tools, camera: str = ""
) -> tuple[Installation | None, Answer]:
    """Find the operator and ask it, about all cameras or one (`NAMESPACE.NAME`)."""
    try:
        installation = find_installation(cluster, target)
    except Problem as error:
        return None, Answer(problem=error.message, hint=error.hint)
    return installation, ask_installation(cluster, installation, tools, camera)


def ask_installation(cluster: Cluster, installation: Installation, tools: Tools, camera: str = "") -> Answer:
    """Ask the operator, the leader before the others; a standby's answer is better than none."""
    path = f"/explain?camera={quote(camera)}" if camera else "/explain"
    standby: Answer | None = None
    problems: list[str] = []
    for pod in running(installation.operators):
        name = str(pod["metadata"]["name"])
        who = f"{installation.namespace}/{name}"
        try:
            status, body = tools.pod_page(
                cluster, installation.namespace, name, container_port(pod, "http-probes", PROBE_PORT), path
            )
        except Refused as error:
            if error.forbidden:
                return Answer(
                    problem="you may not ask the operator",
                    hint=f"it takes the right to get pods/proxy in namespace {installation.namespace}",
                )
            problems.append(error.message)
            continue
        except Problem as error:
            problems.append(error.message)
            continue
        if status == 404:
            problems.append(
                f"operator {who} does not know {camera}"
                if camera
                else f"operator {who} is too old to say why"
            )
            continue
        document = _document(body)
        if status != 200 or not document:
            problems.append(f"operator {who} answered with HTTP {status}")
            continue
        if document.get("leader", True):
            return Answer(document, who)
        standby = standby or Answer(document, who, problem=f"{who} is a standby: no leader has answered")
    # The first is the leader's own.
    return standby or Answer(problem=(*problems, f"no operator runs in {installation.namespace}")[0])


def _document(body: bytes) -> Json:
    try:
        decoded = json.loads(body)
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}
