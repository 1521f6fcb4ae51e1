"""A past for a Prometheus that has not been started yet: series as the usual exporters give them."""

from __future__ import annotations

import time
from pathlib import Path

from support.promtool import promtool

STEP, HISTORY = 15, 900
"""Seconds between two scrapes, and since the first."""


class History:
    """Series as OpenMetrics text: counters grow by `rate` per second, gauges stand still. It ends now."""

    def __init__(self) -> None:
        self.now = int(time.time()) - 1
        self._families: dict[str, list[str]] = {}

    def counter(self, series: str, rate: float, since: int = HISTORY) -> None:
        times = range(self.now - since, self.now + 1, STEP)
        self._add(series, [f"{series} {1000 + rate * (at - times[0])} {at}" for at in times])

    def gauge(self, series: str, value: float) -> None:
        times = range(self.now - HISTORY, self.now + 1, STEP)
        self._add(series, [f"{series} {value} {at}" for at in times])

    def _add(self, series: str, lines: list[str]) -> None:
        self._families.setdefault(series.partition("{")[0], []).extend(lines)

    def text(self) -> str:
        parts = []
        for name, lines in self._families.items():
            kind, family = ("counter", name.removesuffix("_total")) if "_total" in name else ("gauge", name)
            parts += [f"# TYPE {family} {kind}", *lines]
        return "\n".join([*parts, "# EOF", ""])

    def write(self, folder: Path) -> None:
        """Put it into the folder of a `PrometheusProcess`."""
        file = folder / "history.txt"
        file.write_text(self.text())
        promtool("tsdb", "create-blocks-from", "openmetrics", file, folder / "data")


def node_exporter(
    history: History, labels: str, busy: float, *, iowait: float = 0.1, since: int = HISTORY
) -> None:
    """Two CPUs; waiting for disks is not being busy."""
    for cpu in range(2):
        for mode, share in {
            "idle": 1 - iowait - busy,
            "iowait": iowait,
            "user": busy * 0.7,
            "system": busy * 0.3,
        }.items():
            series = f'node_cpu_seconds_total{{cpu="{cpu}",mode="{mode}",job="node-exporter",{labels}}}'
            history.counter(series, share, since)


def cadvisor(history: History, labels: str, cores: int, busy: float) -> None:
    common = f'job="kubelet",metrics_path="/metrics/cadvisor",{labels}'
    history.counter(f'container_cpu_usage_seconds_total{{id="/",cpu="total",{common}}}', busy * cores)
    history.counter(
        f'container_cpu_usage_seconds_total{{id="/kubepods/pod1/c1",cpu="total",pod="a",{common}}}', 0.1
    )
    history.gauge(f'machine_cpu_cores{{boot_id="b",machine_id="m",{common}}}', cores)


def dcgm(history: History, labels: str, *used: tuple[float, float]) -> None:
    """One GPU for each pair of a share of its time and one of its memory."""
    for number, (share, memory) in enumerate(used):
        common = f'gpu="{number}",UUID="GPU-{number}",modelName="T4",job="dcgm",pod="nvidia-dcgm-x",{labels}'
        history.gauge(f"DCGM_FI_DEV_GPU_UTIL{{{common}}}", 100 * share)
        history.gauge(f"DCGM_FI_DEV_FB_USED{{{common}}}", 16000 * memory)
        history.gauge(f"DCGM_FI_DEV_FB_FREE{{{common}}}", 16000 * (1 - memory))


def worker(history: History, labels: str, cores: float) -> None:
    history.counter(f"camfleet_camera_worker_cpu_seconds_total{{{labels}}}", cores)
