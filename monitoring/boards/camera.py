"""One camera: everything that is known about it."""

from __future__ import annotations

from monitoring.common import CLUSTERS, GATEWAY_JOB
from monitoring.grafana import Annotation, Dashboard, Row, Variable
from monitoring.panels import Panel, Query, graph, stat
from monitoring.queries import JOB, OFFLINE_SECONDS, SAME, STALL_SECONDS, Cameras

CAMERA = Cameras('namespace="$namespace", camera="$camera"')

_MEAN = f"{CAMERA.rate('inference_seconds_sum')} / ({CAMERA.rate('inference_seconds_count')} > 0)"

VARIABLES = (
    CLUSTERS,
    GATEWAY_JOB,
    Variable(
        "namespace",
        "Namespace",
        f"label_values(camfleet_camera_worker_connected{{{JOB}}}, namespace)",
        multi=False,
    ),
    Variable(
        "camera",
        "Camera",
        f'label_values(camfleet_camera_worker_connected{{{JOB}, namespace="$namespace"}}, camera)',
        multi=False,
    ),
)

_PLACE = "on (namespace, camera, node, pod, attempt)"
NEW_WORKER = Annotation(
    "New worker",
    f"({CAMERA.info} unless {_PLACE} {CAMERA.info} offset 1m) "
    f"and {SAME} {CAMERA.raw('worker_connected')} offset 1m",
    "Attempt {{attempt}}: {{pod}} on {{node}}",
    color="blue",
)


def _now() -> Row:
    yes_no = {0: ("no", "red"), 1: ("yes", "green")}
    return Row(
        "Now",
        [
            stat(
                "Age of the picture",
                "Seconds since the last new picture, by the gateway's clock; none before the first.",
                CAMERA.age(),
                unit="s",
                thresholds=[(STALL_SECONDS, "orange"), (OFFLINE_SECONDS, "red")],
            ),
            stat(
                "Worker connected",
                "Whether a worker of this camera is connected to a gateway.",
                CAMERA.each("worker_connected"),
                mappings=yes_no,
            ),
            stat(
                "Source connected",
                "Whether the worker has its source open. If not, see the errors below.",
                CAMERA.each("source_connected"),
                mappings=yes_no,
            ),
            stat(
                "Inference",
                "Mean time of one inference, lately.",
                _MEAN,
                unit="s",
                base="text",
            ),
            stat("Viewers", "Who watches it now.", CAMERA.each("viewers", "sum"), base="text"),
            stat(
                "Node",
                "Where its worker is; which pod and attempt is below.",
                f"max by (node) ({CAMERA.info})",
                legend="{{node}}",
                name_only=True,
                base="text",
            ),
        ],
    )


def _health() -> Row:
    rank = {0: ("no", "red"), 1: ("yes", "green")}
    here: dict[float, tuple[str, str]] = {1: ("here", "blue")}
    return Row(
        "Health",
        [
            graph(
                "Age of the picture",
                f"Above {STALL_SECONDS} s it is stale, above {OFFLINE_SECONDS} s the camera is offline. "
                "Gaps are times without a worker.",
                (CAMERA.age(), "picture"),
                (CAMERA.age("last_inference"), "inference"),
                unit="s",
                thresholds=[(STALL_SECONDS, "orange"), (OFFLINE_SECONDS, "red")],
                width=12,
            ),
            Panel(
                "state-timeline",
                "Connections",
                "When a worker was connected to a gateway, when it had its source, and when its pictures "
                "were not all the same.",
                [
                    Query(CAMERA.each("worker_connected"), "worker"),
                    Query(CAMERA.each("source_connected"), "source"),
                    Query(f"1 - {CAMERA.each('picture_frozen')}", "picture changes"),
                ],
                width=12,
                height=4,
                mappings=rank,  # type: ignore[arg-type]
            ),
            Panel(
                "state-timeline",
                "Where it ran",
                "Node, pod and attempt over time. Each replacement is an attempt with a higher number.",
                [
                    Query(
                        f"max by (node, pod, attempt) ({CAMERA.info})",
                        "{{node}} · {{pod}} · attempt {{attempt}}",
                    )
                ],
                width=12,
                height=4,
                mappings=here,  # type: ignore[arg-type]
            ),
            graph(
                "Errors of the source",
                "By reason; docs/troubleshooting.md says what to do about each.",
                (CAMERA.rate("source_errors_total", "reason"), "{{reason}}"),
                unit="cps",
                stack=True,
            ),
            graph(
                "Source opened again",
                "A steady rate is a network or camera that comes and goes.",
                (CAMERA.rate("source_reconnects_total"), "reconnects"),
                unit="cps",
            ),
            graph(
                "Viewers",
                "Who watches. Nothing is encoded while nobody does.",
                (CAMERA.each("viewers", "sum"), "viewers"),
            ),
        ],
    )


def _pictures() -> Row:
    return Row(
        "Pictures",
        [
            graph(
                "Pictures per second",
                "Captured from the source, examined, encoded and published. The last two rest while nobody "
                "watches.",
                *(
                    (CAMERA.rate(f"frames_{step}_total"), step)
                    for step in ("captured", "inferred", "encoded", "published")
                ),
                unit="ops",
                width=6,
            ),
            graph(
                "Pictures given up",
                "Newest first, nothing queues: what cannot be examined or sent in time is dropped, by "
                "reason.",
                (CAMERA.rate("frames_dropped_total", "reason"), "{{reason}}"),
                unit="ops",
                stack=True,
                width=6,
            ),
            graph(
                "Detections",
                "Things found, by kind.",
                (CAMERA.rate("detections_total", "kind"), "{{kind}}"),
                unit="cps",
                stack=True,
                width=6,
            ),
            graph(
                "Events lost",
                "That the worker's outbox had no room for; the others wait there until the gateway has them.",
                (CAMERA.rate("events_dropped_total"), "lost"),
                unit="cps",
                width=6,
            ),
        ],
    )


def _costs() -> Row:
    return Row(
        "Inference and what it costs",
        [
            graph(
                "Time of an inference",
                "Mean. If it nears one over the wanted rate, the node or its GPU is too busy.",
                (
                    _MEAN,
                    "mean",
                ),
                unit="s",
                width=6,
            ),
            graph(
                "CPU",
                "Cores that the worker takes.",
                (CAMERA.rate("worker_cpu_seconds_total"), "cores"),
                width=6,
            ),
            graph(
                "Memory",
                "Resident memory of the worker. A line that climbs for days is a leak.",
                (CAMERA.each("worker_resident_memory_bytes"), "resident"),
                unit="bytes",
                width=6,
            ),
            graph(
                "GPU memory",
                "Of the worker; empty where it uses no GPU.",
                (CAMERA.each("worker_gpu_memory_bytes"), "on the GPU"),
                unit="bytes",
                width=6,
            ),
        ],
    )


DASHBOARD = Dashboard(
    "camfleet-camera",
    "Camfleet / Camera",
    "One camera: its pictures, its source, its worker, and where that ran.",
    VARIABLES,
    [_now(), _health(), _pictures(), _costs()],
    [NEW_WORKER],
)
