"""All cameras: how many are well, which are not, and what they cost."""

from __future__ import annotations

from monitoring.common import ANY_JOB, CLUSTERS, MOVED, MOVES
from monitoring.grafana import Dashboard, Row, Variable
from monitoring.panels import Panel, Query, graph, stat
from monitoring.queries import (
    CLUSTER,
    EACH,
    JOB,
    OFFLINE_SECONDS,
    SAME,
    Cameras,
    count,
    selector,
    share,
)

CAMERAS = Cameras('namespace=~"$namespace"', 'site=~"$site", node=~"$node"')
SENT = selector("camfleet_gateway_bytes_sent_total")
PODS = "container_network_receive_bytes_total"
_LAST_SEEN = f"max_over_time({CAMERAS.raw('last_frame_timestamp_seconds')}[1h])"

VARIABLES = (
    CLUSTERS,
    ANY_JOB,
    Variable("namespace", "Namespace", f"label_values(camfleet_camera_worker_connected{{{JOB}}}, namespace)"),
    Variable("site", "Site", f'label_values(camfleet_camera_info{{{JOB}, namespace=~"$namespace"}}, site)'),
    Variable("node", "Node", f'label_values(camfleet_camera_info{{{JOB}, namespace=~"$namespace"}}, node)'),
)


def _now() -> Row:
    return Row(
        "Now",
        [
            stat(
                "Cameras",
                "Cameras of the choice above, but for paused ones.",
                count(CAMERAS.wanted),
            ),
            stat(
                "Available",
                f"Share of them with a worker and a picture of the last {OFFLINE_SECONDS} seconds.",
                share(CAMERAS.live, CAMERAS.wanted),
                unit="percentunit",
                base="red",
                thresholds=[(0.95, "orange"), (0.99, "green")],
            ),
            stat(
                "Offline",
                f"Cameras without a picture of the last {OFFLINE_SECONDS} seconds. The list is below.",
                count(CAMERAS.offline),
                thresholds=[(1, "red")],
            ),
            stat(
                "Moves",
                "Workers that were moved to another node for the sake of health, in the range of time above.",
                f"sum(increase({MOVES}[$__range])) or vector(0)",
                thresholds=[(1, "orange")],
            ),
            stat(
                "Frozen scopes",
                "Parts of the fleet where so much is bad at once that nothing is moved. See the operator's "
                "page.",
                f"sum(max by (scope) ({selector('camfleet_operator_frozen')})) or vector(0)",
                thresholds=[(1, "red")],
            ),
            stat(
                "Viewers",
                "Connections that watch a camera now; one that watches three counts three times.",
                f"sum({CAMERAS.chosen(CAMERAS.raw('viewers'))})",
                base="text",
            ),
        ],
    )


def _availability() -> Row:
    offline = [
        f"({CAMERAS.offline})",
        f"({CAMERAS.each('source_connected')}) and {SAME} ({CAMERAS.offline})",
        f"(time() - max {EACH} ({_LAST_SEEN} > 0)) and {SAME} ({CAMERAS.offline})",
        f"({CAMERAS.info}) and {SAME} ({CAMERAS.offline})",
    ]
    return Row(
        "Availability",
        [
            graph(
                "Cameras by state",
                "Streaming: worker and source are there and the picture is fresh. No source: the worker "
                "cannot reach its camera; moving it would not help. Stale: both seem well, and no new "
                "picture comes.",
                (count(CAMERAS.live), "streaming"),
                (count(CAMERAS.no_source), "no source"),
                (count(CAMERAS.no_worker), "no worker"),
                (count(CAMERAS.stale), "stale"),
                (count(CAMERAS.paused), "paused"),
                stack=True,
                width=12,
            ),
            graph(
                "Availability by site",
                f"Share of a site's cameras with a picture of the last {OFFLINE_SECONDS} seconds. One site "
                "down and the others up is a matter of its network or power.",
                (
                    CAMERAS.live_share_by_site,
                    "{{site}}",
                ),
                unit="percentunit",
                most=1,
                width=12,
            ),
            Panel(
                "table",
                "Offline cameras",
                f"Cameras without a picture of the last {OFFLINE_SECONDS} seconds, and for how long; longer "
                "than an hour has no number. Click one for its own page.",
                [Query(expr) for expr in offline],
                width=14,
                height=9,
                columns={
                    "namespace": "Namespace",
                    "camera": "Camera",
                    "Value #C": "Last picture",
                    "Value #A": "Worker",
                    "Value #B": "Source",
                    "site": "Site",
                    "node": "Node",
                    "pod": "Pod",
                },
                column_units={"Last picture": "s"},
                column_mappings={
                    name: {0: ("none", "red"), 1: ("connected", "green")} for name in ("Worker", "Source")
                },
                link="Camera",
            ),
            graph(
                "Cameras by node",
                "Cameras whose worker is on a node, well or not. A line that falls to nothing is a lost "
                "node.",
                (CAMERAS.by_node(), "{{node}}"),
                stack=True,
                width=10,
                height=9,
            ),
        ],
    )


def _faults() -> Row:
    return Row(
        "Faults and moves",
        [
            graph(
                "Errors of sources",
                "Failed attempts to open or read a source, by reason. A camera at fault is never moved.",
                (CAMERAS.total_rate("source_errors_total", "reason"), "{{reason}}"),
                unit="cps",
                stack=True,
                width=6,
            ),
            graph(
                "Sources opened again",
                "A steady rate is a network or camera that comes and goes.",
                (CAMERAS.total_rate("source_reconnects_total"), "reconnects"),
                unit="cps",
                width=6,
            ),
            graph(
                "Frozen pictures",
                "Cameras whose pictures come and are all the same, also after the source was opened anew. "
                "Look at the camera: moving its worker would not help.",
                (count(CAMERAS.frozen), "frozen"),
                width=6,
            ),
            graph(
                "Moves by reason",
                "Workers moved to another node: their node was lost (NodeLost) or faulty (NodeFault), the "
                "worker itself failed (WorkerFault), a node was too full (Relief), or somebody asked "
                "(Requested).",
                (f"sum by (reason) (increase({MOVES}[$__rate_interval]))", "{{reason}}"),
                bars=True,
                stack=True,
                width=6,
            ),
        ],
    )


def _pictures() -> Row:
    seconds = CAMERAS.total_rate("inference_seconds_sum")
    each_seconds = CAMERAS.rate("inference_seconds_sum")
    return Row(
        "Pictures",
        [
            graph(
                "Pictures per second",
                "Captured, examined, encoded and published, of all cameras. The last two rest while nobody "
                "watches.",
                *(
                    (CAMERAS.total_rate(f"frames_{step}_total"), step)
                    for step in ("captured", "inferred", "encoded", "published")
                ),
                unit="ops",
            ),
            graph(
                "Detections",
                "Things found, by kind.",
                (CAMERAS.total_rate("detections_total", "kind"), "{{kind}}"),
                unit="cps",
                stack=True,
            ),
            graph(
                "Pictures given up",
                "Newest first, nothing queues: what cannot be examined or sent in time is dropped, by "
                "reason.",
                (CAMERAS.total_rate("frames_dropped_total", "reason"), "{{reason}}"),
                unit="ops",
                stack=True,
            ),
            graph(
                "Time of an inference",
                "Mean of all cameras, and the ten slowest.",
                (f"{seconds} / {CAMERAS.total_rate('inference_seconds_count')}", "mean"),
                (
                    f"topk(10, {each_seconds} / ({CAMERAS.rate('inference_seconds_count')} > 0))",
                    "{{namespace}}/{{camera}}",
                ),
                unit="s",
                width=12,
            ),
            graph(
                "Age of the oldest pictures",
                "The ten cameras whose picture is oldest. A healthy camera's is below a few seconds.",
                (f"topk(10, {CAMERAS.age()})", "{{namespace}}/{{camera}}"),
                unit="s",
                thresholds=[(OFFLINE_SECONDS, "red")],
                width=12,
            ),
        ],
    )


def _costs() -> Row:
    resident, on_gpu = (CAMERAS.raw(f"worker_{name}_memory_bytes") for name in ("resident", "gpu"))
    memory, gpu = (f"max {EACH} ({CAMERAS.chosen(name)})" for name in (resident, on_gpu))
    pods = f'sum by (namespace, pod) (rate({PODS}{{{CLUSTER}, namespace=~"$namespace"}}[$__rate_interval]))'
    return Row(
        "What they cost",
        [
            graph(
                "CPU of workers",
                "Cores of all workers, and the ten that take most.",
                (CAMERAS.total_rate("worker_cpu_seconds_total"), "all"),
                (f"topk(10, {CAMERAS.rate('worker_cpu_seconds_total')})", "{{namespace}}/{{camera}}"),
                unit="short",
            ),
            graph(
                "Memory of workers",
                "Resident memory of all workers, and the ten that take most. A line that climbs for days is "
                "a leak.",
                (f"sum({CAMERAS.chosen(resident)})", "all"),
                (f"topk(10, {memory})", "{{namespace}}/{{camera}}"),
                unit="bytes",
            ),
            graph(
                "GPU memory of workers",
                "All workers, and the ten that take most; empty where no GPU is used.",
                (f"sum({CAMERAS.chosen(on_gpu)})", "all"),
                (f"topk(10, {gpu})", "{{namespace}}/{{camera}}"),
                unit="bytes",
            ),
            graph(
                "CPU by node",
                "Cores that the workers of a node take.",
                (CAMERAS.by_node(CAMERAS.rate("worker_cpu_seconds_total")), "{{node}}"),
                unit="short",
                stack=True,
            ),
            graph(
                "To viewers",
                "Bytes of pictures that gateways send to people and programs.",
                (f"sum by (kind) (rate({SENT}[$__rate_interval]))", "{{kind}}"),
                unit="Bps",
                stack=True,
            ),
            graph(
                "From cameras",
                "Bytes that worker pods receive, from the kubelet's cAdvisor metrics; empty without them.",
                (f"sum(({pods}) and on (namespace, pod) {CAMERAS.info})", "received"),
                unit="Bps",
            ),
        ],
    )


DASHBOARD = Dashboard(
    "camfleet-fleet",
    "Camfleet / Fleet",
    "All cameras: how many are well, which are not, what was moved, and what they cost.",
    VARIABLES,
    [_now(), _availability(), _faults(), _pictures(), _costs()],
    [MOVED],
    since="now-3h",
    refresh="1m",
    points=60,  # with thousands of cameras each point costs
)
