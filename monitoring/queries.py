"""PromQL that several dashboards share. Plain strings: what Prometheus gets can be read in the JSON files.

Series of a camera come from the gateway that holds its worker, and change their `instance` when that changes.
What is drawn for each camera is therefore aggregated to namespace and camera; what is summed over cameras is
not, for with thousands of them every join and every grouping costs seconds. Choices by site or node are one
join on `camfleet_camera_info`, as far outside as possible; where its labels are shown it is the left side, so
that two of its series for one camera (an old gateway's and a new one's) are no error.
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
_PLACED = 'node!=""'
SAME = "on (namespace, camera)"


def selector(name: str, *matchers: str) -> str:
    """A metric of some job."""
    return f"{name}{{{', '.join((JOB, *matchers))}}}"


class Cameras:
    """Queries about a choice of cameras, made by matchers on the labels of a camera and of its info."""

    def __init__(self, matchers: str, info_matchers: str = "") -> None:
        self._matchers = matchers
        self._info_matchers = info_matchers
        self.info = self._info()

    def _info(self, *more: str) -> str:
        matchers = ", ".join(filter(None, (JOB, self._matchers, self._info_matchers, *more)))
        return f"camfleet_camera_info{{{matchers}}}"

    def raw(self, name: str, *matchers: str) -> str:
        """A metric `camfleet_camera_…` of these cameras, not yet chosen by site or node."""
        return selector(f"camfleet_camera_{name}", self._matchers, *matchers)

    def chosen(self, expression: str) -> str:
        """Only what belongs to these cameras, of a vector with their labels."""
        return f"({expression}) and {SAME} {self.info}" if self._info_matchers else expression

    def each(self, name: str, by: str = "max") -> str:
        """A gauge, once for each camera."""
        return f"{by} {EACH} ({self.chosen(self.raw(name))})"

    def _rate(self, name: str) -> str:
        return self.chosen(f"rate({self.raw(name)}[$__rate_interval])")

    def rate(self, name: str, *labels: str) -> str:
        """A counter's rate for each camera, and for each value of these labels."""
        return f"sum by ({', '.join(('namespace', 'camera', *labels))}) ({self._rate(name)})"

    def total_rate(self, name: str, *labels: str) -> str:
        """A counter's rate for all of them together, for each value of these labels."""
        by = f" by ({', '.join(labels)})" if labels else ""
        return f"sum{by} ({self._rate(name)})"

    def _age(self, name: str = "last_frame") -> str:
        clock, stamp = selector("camfleet_gateway_time_seconds"), self.raw(f"{name}_timestamp_seconds")
        return f"{clock} - on (job, instance) group_right () ({stamp} > 0)"

    def age(self, name: str = "last_frame") -> str:
        """Seconds since each camera's last picture, by the gateway's clock; nothing before its first."""
        return f"min {EACH} ({self.chosen(self._age(name))})"

    @property
    def _live(self) -> str:
        return f"({self._age()}) <= {OFFLINE_SECONDS}"

    @property
    def live(self) -> str:
        """The cameras with a fresh picture; only the gateway that has the worker tells its time."""
        return self.chosen(self._live)

    @property
    def wanted(self) -> str:
        """All cameras but the paused ones: 1 for each that has a worker at some gateway, else 0."""
        connected = f"max {EACH} ({self.raw('worker_connected')})"
        return self.chosen(f"{connected} unless {SAME} {self.raw('suspended')}")

    @property
    def offline(self) -> str:
        """Those of them that are not live."""
        return f"({self.wanted}) unless {SAME} ({self._live})"

    @property
    def no_worker(self) -> str:
        """Those of them without a worker."""
        return f"({self.wanted}) == 0"

    @property
    def no_source(self) -> str:
        """The cameras whose worker has lost its source, and that are offline for that."""
        return self.chosen(f"({self.raw('source_connected')} == 0) unless {SAME} ({self._live})")

    @property
    def stale(self) -> str:
        """The cameras that are offline though worker and source seem to be well."""
        return self.chosen(f"({self.raw('source_connected')} == 1) unless {SAME} ({self._live})")

    @property
    def paused(self) -> str:
        """The cameras that somebody has paused; they need no worker and are not offline."""
        return self.each("suspended")

    @property
    def frozen(self) -> str:
        """The cameras whose pictures are all the same."""
        return self.chosen(f"{self.raw('picture_frozen')} == 1")

    @property
    def live_share_by_site(self) -> str:
        """The share of live cameras of each site."""
        wanted = f"({self.info} unless {SAME} {self.raw('suspended')})"
        return f"avg by (site) (({wanted} and {SAME} ({self._live})) or {wanted} * 0)"

    def by_node(self, each: str = "") -> str:
        """The sum of a figure of each camera, for each node; how many cameras there are, without one."""
        there = f"max by (namespace, camera, node) ({self._info(_PLACED)})"
        return (
            f"sum by (node) ({there} * {SAME} group_left () ({each}))"
            if each
            else f"count by (node) ({there})"
        )


def count(cameras: str) -> str:
    """How many there are; 0 rather than nothing."""
    return f"count({cameras}) or vector(0)"


def share(part: str, whole: str) -> str:
    """A part of a whole that is not empty."""
    return f"({count(part)}) / count({whole})"
