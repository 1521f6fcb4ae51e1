"""PromQL that several dashboards share. Plain strings: what Prometheus gets can be read in the JSON files.

Series of a camera come from the gateway that holds its worker, and change their `instance` when that changes,
so everything is aggregated to namespace and camera first. Which node and site a camera has is told by
`camfleet_camera_info`; `topk` keeps one of them while a scrape of the old gateway and one of the new are both
fresh.
"""

from __future__ import annotations

OFFLINE_SECONDS = 60
"""The age of a picture from which on a camera counts as offline; the alert's as well."""
STALL_SECONDS = 20

CLUSTER = 'cluster="$cluster"'
"""Where one Prometheus knows several clusters, one of them; an empty value means series without the label."""
JOB = f'{CLUSTER}, job=~"$job"'
INSTANCE = f'{JOB}, instance=~"$instance"'
EACH = "by (namespace, camera)"
SAME = "on (namespace, camera)"


def selector(name: str, *matchers: str) -> str:
    """A metric of some job."""
    return f"{name}{{{', '.join((JOB, *matchers))}}}"


class Cameras:
    """Queries about a choice of cameras, made by matchers on the labels of a camera and of its info."""

    def __init__(self, matchers: str, info_matchers: str = "") -> None:
        self._matchers = matchers
        self._filtered = bool(info_matchers)
        of_info = ", ".join(filter(None, (JOB, matchers, info_matchers)))
        self.info = f"camfleet_camera_info{{{of_info}}}"
        self.one_info = f"topk {EACH} (1, {self.info})"

    def raw(self, name: str, *matchers: str) -> str:
        """A metric `camfleet_camera_…` of these cameras, where no choice by node or site is needed."""
        return selector(f"camfleet_camera_{name}", self._matchers, *matchers)

    def chosen(self, expression: str) -> str:
        """Only what belongs to these cameras, of a vector with their labels."""
        return f"{expression} and {SAME} {self.info}" if self._filtered else expression

    def each(self, name: str, by: str = "max") -> str:
        """A gauge, once for each camera."""
        return f"{by} {EACH} ({self.chosen(self.raw(name))})"

    def rate(self, name: str, *labels: str) -> str:
        """A counter's rate for each camera, and for each value of these labels."""
        group = ", ".join(("namespace", "camera", *labels))
        return f"sum by ({group}) ({self.chosen(f'rate({self.raw(name)}[$__rate_interval])')})"

    def total_rate(self, name: str, *labels: str) -> str:
        """A counter's rate for all of them together, for each value of these labels."""
        by = f" by ({', '.join(labels)})" if labels else ""
        return f"sum{by} ({self.chosen(f'rate({self.raw(name)}[$__rate_interval])')})"

    def age(self, name: str = "last_frame") -> str:
        """Seconds since each camera's last picture, by the gateway's clock; nothing before its first."""
        clock = selector("camfleet_gateway_time_seconds")
        stamp = f"{self.raw(f'{name}_timestamp_seconds')} > 0"
        return f"min {EACH} ({self.chosen(f'({clock} - on (job, instance) group_right () ({stamp}))')})"

    @property
    def connected(self) -> str:
        """1 for each camera that has a worker at some gateway, else 0; nothing for paused ones."""
        return f"({self.each('worker_connected')} unless {SAME} {self.raw('suspended')})"

    @property
    def live(self) -> str:
        """The cameras with a worker and a fresh picture."""
        return f"({self.age()} <= {OFFLINE_SECONDS}) and {SAME} ({self.connected} == 1)"

    @property
    def offline(self) -> str:
        """The cameras without; 1 where there is a worker all the same."""
        return f"{self.connected} unless {SAME} ({self.live})"

    @property
    def no_worker(self) -> str:
        """The cameras without a worker."""
        return f"{self.connected} == 0"

    @property
    def no_source(self) -> str:
        """The cameras whose worker has lost its source, and that are offline for that."""
        return f"(({self.each('source_connected')}) == 0) unless {SAME} ({self.live})"

    @property
    def stale(self) -> str:
        """The cameras that are offline though worker and source seem to be well."""
        return f"(({self.each('source_connected')}) == 1) unless {SAME} ({self.live})"

    @property
    def paused(self) -> str:
        """The cameras that somebody has paused; they need no worker and are not offline."""
        return self.each("suspended")

    @property
    def frozen(self) -> str:
        """The cameras whose pictures are all the same."""
        return f"{self.each('picture_frozen')} == 1"

    def by(self, label: str, cameras: str) -> str:
        """How many of some cameras there are for each value of a label of `camfleet_camera_info`."""
        return f"count by ({label}) (({cameras}) * {SAME} group_left ({label}) ({self.one_info}))"


def count(cameras: str) -> str:
    """How many there are; 0 rather than nothing."""
    return f"count({cameras}) or vector(0)"


def share(part: str, whole: str) -> str:
    """A part of a whole that is not empty."""
    return f"({count(part)}) / count({whole})"
