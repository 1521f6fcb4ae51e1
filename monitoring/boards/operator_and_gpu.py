"""The operator and the nodes: what it knows, what it moves and holds back, and where there is room."""

from __future__ import annotations

from monitoring.common import ANY_JOB, CLUSTERS, MOVED
from monitoring.grafana import Dashboard, Row, Variable
from monitoring.panels import Color, Panel, graph, stat
from monitoring.queries import CLUSTER, INSTANCE, JOB

INFO = f'camfleet_camera_info{{{JOB}, node=~"$node", node!=""}}'
BY_NODE = f"count by (node) (max by (namespace, camera, node) ({INFO}))"


def _of(name: str, *matchers: str) -> str:
    return f"camfleet_operator_{name}{{{', '.join((INSTANCE, *matchers))}}}"


LEADER = f"{_of('leader')} == 1"


def _leading(name: str, *matchers: str) -> str:
    """A gauge of the replica that acts: the others see the same, and would count twice."""
    return f"({_of(name, *matchers)} and on (job, instance) ({LEADER}))"


def _verdict(name: str, text: str, *thresholds: tuple[float, Color]) -> Panel:
    matcher = f'verdict="{name}"'
    expr = f"sum({_leading('verdicts', matcher)}) or vector(0)"
    return stat(name, text, expr, thresholds=thresholds, width=3)


def _rate(name: str) -> str:
    return f"rate({_of(name)}[$__rate_interval])"


def _quantile(share: float, name: str) -> str:
    return f"histogram_quantile({share:g}, sum by (le) ({_rate(f'{name}_seconds_bucket')}))"


def _quantiles(name: str) -> list[tuple[str, str]]:
    return [(_quantile(share, name), f"p{share * 100:g}") for share in (0.5, 0.9, 0.99)]


def _gpu(name: str) -> str:
    """A metric of the DCGM exporter; its label `Hostname` is the node."""
    return f'label_join(DCGM_FI_DEV_{name}{{{CLUSTER}, Hostname=~"$node"}}, "node", "", "Hostname")'


# node-exporter names its own address; the node's name is in node_uname_info.
_NODE_NAME = f'label_join(node_uname_info{{{CLUSTER}, nodename=~"$node"}}, "node", "", "nodename")'
_OF_NODE = f"* on (job, instance) group_left (node) {_NODE_NAME}"

VARIABLES = (
    CLUSTERS,
    ANY_JOB,
    Variable(
        "instance", "Instance", f"label_values(camfleet_operator_leader{{{JOB}}}, instance)", all_value=".+"
    ),
    Variable("node", "Node", f'label_values(camfleet_camera_info{{{JOB}, node!=""}}, node)'),
)


def _now() -> Row:
    return Row(
        "Now",
        [
            stat(
                "Leaders",
                "Replicas that act. One is right; none for more than 20 s means that nothing is repaired.",
                f"sum({_of('leader')})",
                base="red",
                thresholds=[(1, "green"), (2, "red")],
                width=3,
            ),
            _verdict("Healthy", "Cameras that are well, as the operator sees it."),
            _verdict("Unhealthy", "Cameras that are not.", (1, "red")),
            _verdict("Unknown", "Cameras of which nothing is known. They are never moved.", (1, "orange")),
            stat(
                "Frozen scopes",
                "Where so much is bad at once that nothing is moved: the fault is not the workers'.",
                f"sum({_leading('frozen')}) or vector(0)",
                thresholds=[(1, "red")],
                width=3,
            ),
            stat(
                "Age of signals",
                "Seconds since all cameras were judged last. Three times the scrape interval is normal.",
                f"time() - max({_leading('last_signals_timestamp_seconds')})",
                unit="s",
                thresholds=[(30, "orange"), (60, "red")],
                width=3,
            ),
            stat(
                "Queue",
                "Cameras that wait to be reconciled.",
                f"sum({_leading('queue_depth')})",
                thresholds=[(100, "orange"), (1000, "red")],
                width=3,
            ),
            stat(
                "Changes waiting",
                "Cameras whose changed profile or defaults wait until others are well with them. If it "
                "stays, the change is bad.",
                f"sum({_leading('rollout_waiting')})",
                thresholds=[(1, "orange")],
                width=3,
            ),
        ],
    )


def _health() -> Row:
    return Row(
        "Health: what it knows",
        [
            graph(
                "Verdicts",
                "Cameras by verdict.",
                (f"max by (verdict) ({_leading('verdicts')})", "{{verdict}}"),
                stack=True,
            ),
            graph(
                "Whose fault it is",
                "Cameras by fault. Only Worker and Node lead to a move; Source is the camera's own, Blind "
                "is ours.",
                (f"max by (fault) ({_leading('faults')})", "{{fault}}"),
                stack=True,
            ),
            graph(
                "Nodes",
                "Nodes with cameras, by state. Suspect: several of its cameras are bad; Dead: its workers "
                "are gone and its Lease is late; Faulty: avoided for a while.",
                (f"max by (state) ({_leading('nodes')})", "{{state}}"),
                stack=True,
            ),
            graph(
                "Blind",
                "1 while nothing can be known of the cameras, and why; then nothing is moved. Empty is good.",
                (f"max by (reason) ({_leading('signals_blind')})", "{{reason}}"),
                most=1,
            ),
            graph(
                "Age of signals",
                "Seconds since all cameras were judged last.",
                (f"time() - max({_leading('last_signals_timestamp_seconds')})", "age"),
                unit="s",
                thresholds=[(60, "red")],
            ),
            graph(
                "Time of a judgement",
                "How long it takes to judge all cameras once, without waiting for their metrics.",
                *_quantiles("tick"),
                unit="s",
            ),
        ],
    )


def _moves() -> Row:
    return Row(
        "Moves: what it does about it",
        [
            graph(
                "Moves by reason",
                "Workers moved to another node: NodeLost, NodeFault, WorkerFault, Relief of a full node, "
                "Requested.",
                (f"sum by (reason) (increase({_of('moves_total')}[$__rate_interval]))", "{{reason}}"),
                bars=True,
                stack=True,
            ),
            graph(
                "Moves held back",
                "Moves that were due and were not made, by cause: paused, frozen, over the budget, dry run.",
                (f"sum by (cause) (increase({_of('moves_held_total')}[$__rate_interval]))", "{{cause}}"),
                bars=True,
                stack=True,
            ),
            graph(
                "Frozen",
                "1 where so much is bad at once that nothing is moved there.",
                (f"max by (scope) ({_leading('frozen')})", "{{scope}}"),
                most=1,
            ),
        ],
    )


def _work() -> Row:
    return Row(
        "Work",
        [
            graph(
                "Reconciles",
                "Cameras looked at and brought in line, by how that ended.",
                (f"sum by (result) ({_rate('reconciles_total')})", "{{result}}"),
                unit="ops",
                stack=True,
            ),
            graph(
                "Time of a reconcile",
                "The API server's answers included; a reconcile that waits for its turn to write takes long.",
                *_quantiles("reconcile"),
                unit="s",
            ),
            graph(
                "Queue", "Cameras that wait.", (f"max by (instance) ({_of('queue_depth')})", "{{instance}}")
            ),
            graph(
                "Writes to the API server",
                "By kind. At rest only update_leases is there.",
                (f"sum by (kind) ({_rate('api_writes_total')})", "{{kind}}"),
                unit="wps",
                stack=True,
            ),
            graph(
                "Changes waiting",
                "Cameras whose changed profile or defaults wait for others to be well.",
                (f"max by (instance) ({_leading('rollout_waiting')})", "waiting"),
            ),
            graph(
                "Age of the last listing",
                "Everything is listed anew every five minutes, in case an event was lost.",
                (f"time() - max by (instance) ({_of('last_resync_timestamp_seconds')})", "{{instance}}"),
                unit="s",
                thresholds=[(600, "red")],
            ),
            graph(
                "Leader",
                "1 on the replica that acts.",
                (f"max by (instance) ({_of('leader')})", "{{instance}}"),
                most=1,
            ),
            graph(
                "CPU of the operator",
                "Cores of each replica.",
                (
                    f"sum by (instance) (rate(process_cpu_seconds_total{{{INSTANCE}}}[$__rate_interval]) "
                    f"and on (job, instance) {_of('leader')})",
                    "{{instance}}",
                ),
            ),
            graph(
                "Memory of the operator",
                "Resident memory of each replica.",
                (
                    f"sum by (instance) (process_resident_memory_bytes{{{INSTANCE}}} "
                    f"and on (job, instance) {_of('leader')})",
                    "{{instance}}",
                ),
                unit="bytes",
            ),
        ],
    )


def _nodes() -> Row:
    idle = (
        f'avg by (job, instance) (rate(node_cpu_seconds_total{{{CLUSTER}, mode="idle"}}[$__rate_interval]))'
    )
    memory = f"1 - node_memory_MemAvailable_bytes{{{CLUSTER}}} / node_memory_MemTotal_bytes{{{CLUSTER}}}"
    used, free = (f"max by (node, gpu) ({_gpu(name)})" for name in ("FB_USED", "FB_FREE"))
    return Row(
        "Nodes and GPUs",
        [
            graph(
                "Cameras by node",
                "Workers on each node.",
                (BY_NODE, "{{node}}"),
                stack=True,
            ),
            graph(
                "CPU of nodes",
                "Share in use, from node-exporter; empty without it.",
                (f"max by (node) ((1 - {idle}) {_OF_NODE})", "{{node}}"),
                unit="percentunit",
                most=1,
                thresholds=[(0.9, "red")],
            ),
            graph(
                "Memory of nodes",
                "Share in use, from node-exporter; empty without it.",
                (f"max by (node) (({memory}) {_OF_NODE})", "{{node}}"),
                unit="percentunit",
                most=1,
                thresholds=[(0.9, "red")],
            ),
            graph(
                "Use of GPUs",
                "Share of time in which each GPU computes, from the DCGM exporter; empty without it.",
                (f"max by (node, gpu) ({_gpu('GPU_UTIL')}) / 100", "{{node}} GPU {{gpu}}"),
                unit="percentunit",
                most=1,
                thresholds=[(0.9, "red")],
            ),
            graph(
                "Memory of GPUs",
                "Share in use, from the DCGM exporter; empty without it.",
                (
                    f"{used} / ({used} + {free})",
                    "{{node}} GPU {{gpu}}",
                ),
                unit="percentunit",
                most=1,
                thresholds=[(0.9, "red")],
            ),
            graph(
                "Cameras per GPU",
                "Workers on nodes with GPUs, for each GPU; GPUs are counted by the DCGM exporter.",
                (
                    f"{BY_NODE} / on (node) count by (node) (max by (node, gpu) ({_gpu('GPU_UTIL')}))",
                    "{{node}}",
                ),
            ),
        ],
    )


DASHBOARD = Dashboard(
    "camfleet-operator",
    "Camfleet / Operator and GPUs",
    "The operator: what it knows, what it moves and holds back, its work; and the nodes and GPUs.",
    VARIABLES,
    [_now(), _health(), _moves(), _work(), _nodes()],
    [MOVED],
)
