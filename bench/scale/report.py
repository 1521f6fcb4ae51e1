"""Tables, and beside each figure what was promised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.scale.measure import Latency, Result

QUOTED = {
    # From the reference measurements, not measured here: cameras -> children exist, of DIRECT there, CPU-s.
    500: (23.8, 23.8 / 1.4, 3.3, 18.0),
    2000: (97.2, 97.2 / 7.1, 13.0, 18.0),
}


@dataclass(frozen=True)
class Goal:
    """A promise, and whether it was kept."""

    what: str
    value: float
    bound: float
    strictly: bool = False

    @property
    def kept(self) -> bool:
        """Whether it was."""
        return self.value < self.bound if self.strictly else self.value <= self.bound

    def line(self) -> str:
        """One row of the table."""
        sign = "<" if self.strictly else "≤"
        verdict = "ok" if self.kept else "**missed**"
        return f"| {self.what} | {self.value:.4g} | {sign} {self.bound:g} | {verdict} |"


def goals(results: Iterable[Result], latencies: Iterable[Latency]) -> list[Goal]:
    """What is promised about these results."""
    found: list[Goal] = []
    results = list(results)
    reference = {r.cameras: r for r in results if r.system == "DIRECT"}
    for r in results:
        if not r.system.startswith("camfleet"):
            continue
        n, label = r.cameras, f"{r.system}, {r.cameras}:"
        if "paced" not in r.system and n in reference:
            found.append(Goal(f"{label} pods exist / DIRECT", r.exist_s / reference[n].exist_s, 2))
        assert r.cpu_s is not None and r.own_writes is not None
        found.append(Goal(f"{label} operator CPU per camera, ms", 1000 * r.cpu_s / n, 10))
        found.append(Goal(f"{label} operator writes per camera until Ready", r.own_writes, 3))
        if r.ready:
            found.append(Goal(f"{label} cameras not Ready", n - r.ready, 0))
        if r.rest_writes is not None and r.rest_cores is not None and r.rest_rss_mib is not None:
            found.append(Goal(f"{label} at rest, writes but the Lease", r.rest_writes, 0))
            found.append(Goal(f"{label} at rest, cores", r.rest_cores, 0.02, strictly=True))
            if n in (2000, 5000):
                bound = 160 if n == 2000 else 300
                found.append(Goal(f"{label} at rest, RSS MB", r.rest_rss_mib * 1.048576, bound))
                if r.restart_rss_mib is not None:
                    after = r.restart_rss_mib * 1.048576
                    found.append(Goal(f"{label} at rest after a restart, RSS MB", after, bound))
        if r.restart_ready_s is not None and r.restart_looked_s is not None:
            assert r.restart_writes is not None
            ready = max(r.restart_ready_s, r.restart_looked_s)
            found.append(Goal(f"{label} restart, ready and all looked at, s", ready, 15))
            found.append(Goal(f"{label} restart, writes but the Lease", r.restart_writes, 0))
    # A replacement waits for the end of the old pod: shown, and not promised.
    found += [Goal(f"{item.what}, p99 ms", item.p99, 200) for item in latencies if item.promised]
    return found


def tables(results: list[Result], latencies: list[Latency]) -> str:
    """Everything, in Markdown."""
    reference = {r.cameras: r for r in results if r.system == "DIRECT"}
    lines = [
        "| system | N | pods exist, s | / DIRECT | all Running, s | quiet, s (Ready) | operator CPU-s "
        "| ms/camera | RSS peak MiB | API server + etcd CPU-s | writes/camera | of the operator "
        "| others' load, cores |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        ratio = r.exist_s / reference[r.cameras].exist_s if r.cameras in reference else 0.0
        quiet = "-" if r.ready_s is None else f"{r.ready_s:.1f} ({r.ready})"
        lines.append(
            f"| {r.system} | {r.cameras} | {r.exist_s:.1f} | {ratio:.2f} | {r.running_s:.1f} | {quiet} "
            f"| {_number(r.cpu_s)} | {_number(r.cpu_s and 1000 * r.cpu_s / r.cameras)} "
            f"| {_number(r.rss_peak_mib, 0)} | {r.api_cpu_s:.1f} | {r.writes:.2f} "
            f"| {_number(r.own_writes, 2)} | {r.foreign_cores:.2f} |"
        )
    for count in sorted({r.cameras for r in results} & QUOTED.keys()):
        exist, times, cpu, writes = QUOTED[count]
        lines.append(
            f"| OPENFILTER (quoted, not measured here) | {count} | {exist} | {times:.0f} | | | {cpu} "
            f"| {1000 * cpu / count:.1f} | | | {writes:.0f} | | |"
        )
    lines += [
        "",
        "| system | N | at rest: seconds, writes | cores | RSS MiB | restart: ready s | all looked at s "
        "| writes | CPU-s | RSS peak / after, MiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.system} | {r.cameras} | {r.rest_s:.0f}, {r.rest_writes} | {_number(r.rest_cores, 4)} "
        f"| {_number(r.rest_rss_mib, 0)} | {_number(r.restart_ready_s)} | {_number(r.restart_looked_s)} "
        f"| {'-' if r.restart_writes is None else r.restart_writes} | {_number(r.restart_cpu_s)} "
        f"| {_number(r.restart_rss_peak_mib, 0)} / {_number(r.restart_rss_mib, 0)} |"
        for r in results
        if r.rest_s is not None
    ]
    if latencies:
        lines += [
            "",
            "| single changes, idle cluster | n | p50 ms | p99 ms | worst ms |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {item.what} | {item.count} | {item.p50:.0f} | {item.p99:.0f} | {item.worst:.0f} |"
            for item in latencies
        ]
    kinds = [r for r in results if r.own_kinds]
    lines += ["", *(f"{r.system}, {r.cameras}: {_kinds(r.own_kinds)} per camera" for r in kinds)]
    lines += ["", "| goal | value | bound | |", "|---|---|---|---|"]
    lines += [goal.line() for goal in goals(results, latencies)]
    return "\n".join(lines)


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _kinds(kinds: dict[str, float]) -> str:
    return ", ".join(f"{kind} {count:.2f}" for kind, count in kinds.items())
