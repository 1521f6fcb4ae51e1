"""What Prometheus is asked about nodes, and which node a series is of. Pure.

One query per resource for the whole cluster. The defaults suit the node exporter (or, where that is missing,
the kubelet's cAdvisor) and NVIDIA's DCGM exporter as kube-prometheus-stack and others scrape them. Each
exporter and each scrape configuration has another label for the node, so all that are usual are kept, and a
series is of the node that the first of them names: by name, host name or address.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from camfleet_operator.cluster.balance.load import NodeInfo, NodeLoad

NODE_CPU: Final = "node_cpu"
NODE_GPU: Final = "node_gpu"
NODE_GPU_MEMORY: Final = "node_gpu_memory"
CAMERA_CPU: Final = "camera_cpu"
NODE_SELECTOR: Final = "node_selector"
"""Not a query: label matchers that the default queries about nodes get, such as `cluster="east"`."""

WINDOW_SECONDS = 180.0
"""Of the rates: two scrapes a minute apart are in it, even if one is missed in between."""
NODE_LABELS = ("node", "Hostname", "kubernetes_node", "nodename", "instance")
"""From the surest to the least sure."""
CONTRADICTION = 0.25
"""Two figures for one node that are so far apart are not of one node."""

_BY = f"by ({', '.join(NODE_LABELS)})"
_TEMPLATES: Mapping[str, str] = {
    NODE_CPU: (
        # Idle time against all time, not against the clock: a rate is too low while its series is young,
        # and a node that has just come would seem busy.
        f'(1 - sum {_BY} (rate(node_cpu_seconds_total{{mode=~"idle|iowait"%s}}[3m])) '
        f"/ sum {_BY} (rate(node_cpu_seconds_total{{%s}}[3m]))) "
        f'or sum {_BY} (rate(container_cpu_usage_seconds_total{{id="/"%s}}[3m])) '
        f"/ sum {_BY} (machine_cpu_cores{{%s}})"
    ),
    NODE_GPU: f"avg {_BY} (DCGM_FI_DEV_GPU_UTIL{{%s}}) / 100",
    NODE_GPU_MEMORY: (
        f"sum {_BY} (DCGM_FI_DEV_FB_USED{{%s}}) "
        f"/ (sum {_BY} (DCGM_FI_DEV_FB_USED{{%s}}) + sum {_BY} (DCGM_FI_DEV_FB_FREE{{%s}}))"
    ),
    # A worker that has changed gateways is told of by two of them for a while.
    CAMERA_CPU: (
        "max by (namespace, exported_namespace, camera) "
        "(rate(camfleet_camera_worker_cpu_seconds_total{%s}[3m]))"
    ),
}
QUERIES = tuple(_TEMPLATES)
NAMES = (*QUERIES, NODE_SELECTOR)
"""What can be set in the file with queries."""

Samples = Sequence[tuple[Mapping[str, str], str]]


def load_queries(overrides: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """All queries by name: those given, and the defaults with the given selectors.

    Args:
        overrides: From the file with queries. `selector` is that of the cameras' series; it is that of the
            nodes' too, where there is no `node_selector`.
    """
    cameras = overrides.get("selector", "").strip().strip(",")
    nodes = overrides.get(NODE_SELECTOR, cameras).strip().strip(",")
    return {
        name: overrides.get(name) or _with(template, cameras if name == CAMERA_CPU else nodes)
        for name, template in _TEMPLATES.items()
    }


def _with(template: str, selector: str) -> str:
    """A default query with a selector beside its own matchers, or without the empty braces."""
    alone = template.replace("{%s}", f"{{{selector}}}" if selector else "")
    return alone.replace("%s", f",{selector}" if selector else "")


class NodeNames:
    """Finds the node of a series.

    Args:
        nodes: All nodes by name.
    """

    def __init__(self, nodes: Mapping[str, NodeInfo]) -> None:
        self._known: dict[str, str] = {}
        shared: set[str] = set()
        for name, node in nodes.items():
            for word in {node.hostname, *node.addresses} - {"", name}:
                if self._known.setdefault(word, name) != name:
                    shared.add(word)
        for word in shared:
            del self._known[word]  # of several nodes: it names none
        self._known.update((name, name) for name in nodes)

    def of(self, labels: Mapping[str, str]) -> str | None:
        """The name of a series' node; None if it is of none that is known."""
        for label in NODE_LABELS:
            if not (value := labels.get(label, "")):
                continue
            name = self._known.get(value) or self._known.get(_host(value))
            if name is not None:
                return name
        return None


def node_shares(samples: Samples, names: NodeNames) -> dict[str, float]:
    """Shares by node; what is no share, of no known node or contradictory is left out.

    Of several figures for one node (two exporters, a pair of Prometheus servers) the greatest counts.
    """
    found: dict[str, list[float]] = {}
    for labels, text in samples:
        share, name = _share(text), names.of(labels)
        if share is not None and name is not None:
            found.setdefault(name, []).append(share)
    return {name: max(shares) for name, shares in found.items() if max(shares) - min(shares) <= CONTRADICTION}


def camera_cores(samples: Samples) -> dict[str, float]:
    """Cores that each camera's worker uses, by `namespace.name`."""
    found: dict[str, float] = {}
    for labels, text in samples:
        # Where the target's labels were made to win, the gateway's own stands aside.
        namespace = labels.get("exported_namespace") or labels.get("namespace")
        cores = _number(text)
        if namespace and (camera := labels.get("camera")) and cores is not None and cores >= 0:
            key = f"{namespace}.{camera}"
            found[key] = max(cores, found.get(key, 0.0))
    return found


def join(shares: Mapping[str, Mapping[str, float]]) -> dict[str, NodeLoad]:
    """Loads by node from the shares of each query."""
    cpu, gpu, memory = (shares.get(name, {}) for name in (NODE_CPU, NODE_GPU, NODE_GPU_MEMORY))
    return {
        name: NodeLoad(cpu=cpu.get(name), gpu=gpu.get(name), gpu_memory=memory.get(name))
        for name in {*cpu, *gpu, *memory}
    }


def _host(value: str) -> str:
    """`10.0.0.1` of `10.0.0.1:9100`, `fd00::1` of `[fd00::1]:9100`."""
    if value.startswith("["):
        return value[1:].partition("]")[0]
    host, colon, port = value.rpartition(":")
    return host if colon and port.isdigit() and ":" not in host else value


def _share(text: str) -> float | None:
    value = _number(text)
    if value is None or not -0.01 <= value <= 1.05:  # counters of many CPUs are not read at one moment
        return None
    return min(1.0, max(0.0, value))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
