"""The gateways: who watches, how much is sent, and whether they keep up."""

from __future__ import annotations

from monitoring.common import CLUSTERS, GATEWAY_JOB
from monitoring.grafana import Dashboard, Row, Variable
from monitoring.panels import graph, stat
from monitoring.queries import INSTANCE, JOB

LAG_SECONDS = 0.1


def _of(name: str) -> str:
    return f"camfleet_gateway_{name}{{{INSTANCE}}}"


def _rate(name: str) -> str:
    return f"rate({_of(name)}[$__rate_interval])"


# Targets that have been a gateway within the range: `up` of a dead one has to stay; others do not matter.
GATEWAYS = f"last_over_time({_of('time_seconds')}[$__range])"


def _scrape(name: str) -> str:
    return f"{name}{{{INSTANCE}}} and on (job, instance) {GATEWAYS}"


VARIABLES = (
    CLUSTERS,
    GATEWAY_JOB,
    Variable(
        "instance",
        "Instance",
        f"label_values(camfleet_gateway_time_seconds{{{JOB}}}, instance)",
        all_value=".+",
    ),
)

_CONNECTED = f"camfleet_camera_worker_connected{{{INSTANCE}}}"


def _now() -> Row:
    return Row(
        "Now",
        [
            stat(
                "Gateways",
                "Gateways that Prometheus reaches.",
                f"sum({_scrape('up')})",
                base="red",
                thresholds=[(1, "green")],
            ),
            stat(
                "Workers",
                "Workers that are connected to them.",
                f"sum({_CONNECTED})",
                base="text",
            ),
            stat("Viewers", "Connections of people and programs.", f"sum({_of('viewers')})", base="text"),
            stat(
                "To viewers",
                "Bytes of pictures per second.",
                f"sum({_rate('bytes_sent_total')})",
                unit="Bps",
                base="text",
            ),
            stat(
                "Loop lag",
                f"How late the event loop of the worst gateway is. Above {LAG_SECONDS} s it is overloaded.",
                f"max({_of('event_loop_lag_seconds')})",
                unit="s",
                thresholds=[(LAG_SECONDS / 2, "orange"), (LAG_SECONDS, "red")],
            ),
            stat(
                "Refused",
                "Connections turned away in the range of time above. The reasons are below.",
                f"sum(increase({_of('sessions_refused_total')}[$__range])) or vector(0)",
                thresholds=[(1, "orange")],
            ),
        ],
    )


def _viewers() -> Row:
    return Row(
        "Viewers",
        [
            graph(
                "Viewers by kind",
                "v1: the page and programs that speak camera.v1; legacy: JSON pictures; mjpeg: endless "
                "pictures in a page or player; events: no pictures.",
                (f"sum by (kind) ({_of('viewers')})", "{{kind}}"),
                stack=True,
            ),
            graph(
                "Pictures sent",
                "To all viewers, by kind.",
                (f"sum by (kind) ({_rate('frames_sent_total')})", "{{kind}}"),
                unit="ops",
                stack=True,
            ),
            graph(
                "Bytes sent",
                "To all viewers, by kind.",
                (f"sum by (kind) ({_rate('bytes_sent_total')})", "{{kind}}"),
                unit="Bps",
                stack=True,
            ),
            graph(
                "Pictures skipped",
                "Share of pictures that viewers did not get because they were not ready for them. Slow "
                "viewers skip; it hurts nobody else.",
                (
                    f"sum by (kind) ({_rate('frames_skipped_total')}) / (sum by (kind) "
                    f"({_rate('frames_skipped_total')}) + sum by (kind) ({_rate('frames_sent_total')}) > 0)",
                    "{{kind}}",
                ),
                unit="percentunit",
                most=1,
                width=12,
            ),
            graph(
                "Refused connections",
                "By reason. Wrong tokens and foreign origins are somebody's mistake or attempt; fenced "
                "workers are the gateway's doing.",
                (f"sum by (reason) ({_rate('sessions_refused_total')})", "{{reason}}"),
                unit="cps",
                stack=True,
                width=12,
            ),
        ],
    )


def _load() -> Row:
    clock = _of("time_seconds")
    return Row(
        "Load and scrapes",
        [
            graph(
                "Lag of the event loop",
                f"The worst of the last seconds. Above {LAG_SECONDS} s pictures come late for everybody.",
                (f"max by (instance) ({_of('event_loop_lag_seconds')})", "{{instance}}"),
                unit="s",
                thresholds=[(LAG_SECONDS, "red")],
            ),
            graph(
                "Workers by gateway",
                "Cameras whose worker is connected to a gateway.",
                (f"sum by (instance) ({_CONNECTED})", "{{instance}}"),
                stack=True,
            ),
            graph(
                "Reached by Prometheus",
                "1 while the gateway's metrics can be read. Without them its cameras are Unknown to the "
                "operator, and nothing of them is moved.",
                (f"min by (instance) ({_scrape('up')})", "{{instance}}"),
                most=1,
            ),
            graph(
                "Time of a scrape",
                "How long the gateway's page takes. It grows with the number of cameras.",
                (f"max by (instance) ({_scrape('scrape_duration_seconds')})", "{{instance}}"),
                unit="s",
            ),
            graph(
                "Samples of a scrape",
                "At most thirty for a camera. If a sample limit is passed, all of the page is lost.",
                (f"max by (instance) ({_scrape('scrape_samples_scraped')})", "{{instance}}"),
            ),
            graph(
                "Clock",
                "The gateway's clock ahead of Prometheus' own. Ages of pictures do not depend on it.",
                (f"max by (instance) ({clock} - timestamp({clock}))", "{{instance}}"),
                unit="s",
                least=None,
            ),
        ],
    )


DASHBOARD = Dashboard(
    "camfleet-gateway",
    "Camfleet / Gateway",
    "The gateways: viewers, pictures sent and skipped, refused connections, load and scrapes.",
    VARIABLES,
    [_now(), _viewers(), _load()],
)
