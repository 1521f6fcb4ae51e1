"""Writes the tables of docs/metrics.md from the metrics that the programs themselves declare.

python -m monitoring.metrics_page            writes them; what stands around them is written by hand
python -m monitoring.metrics_page --check    exits with 1 if they are not what it would write
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from camfleet_gateway.metrics import FAMILIES, PREFIX
from camfleet_gateway.own_metrics import OWN, OWN_PREFIX
from camfleet_operator.cluster.metrics import OperatorMetrics

PAGE = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"


@dataclass(frozen=True, slots=True)
class Described:
    """One metric as the page shows it; `names` are of its series, without those of buckets."""

    names: tuple[str, ...]
    kind: str
    labels: tuple[str, ...]
    text: str

    @property
    def unit(self) -> str:
        """The unit, which the name ends with."""
        name = re.sub(r"_(total|sum|count)$", "", self.names[0])
        if name.endswith(("_timestamp_seconds", "gateway_time_seconds")):
            return "Unix time"
        return next((unit for unit in ("seconds", "bytes") if name.endswith(f"_{unit}")), "")

    def row(self) -> str:
        """The line of the table."""
        names = ", ".join(f"`{name}`" for name in self.names)
        labels = ", ".join(f"`{label}`" for label in self.labels)
        text = re.sub(r"\bcamfleet_\w+", r"`\g<0>`", self.text).replace("|", "\\|")
        return f"| {names} | {self.kind} | {self.unit} | {labels} | {text} |"


def of_cameras() -> Iterator[Described]:
    """What a gateway says of each camera."""
    for family in FAMILIES:
        endings = ("_sum", "_count") if family.kind == "summary" else ("",)
        names = tuple(f"{PREFIX}{family.suffix}{ending}" for ending in endings)
        yield Described(names, family.kind, family.labels, family.text)


def of_gateway() -> Iterator[Described]:
    """What a gateway says of itself."""
    for own in OWN:
        yield Described((f"{OWN_PREFIX}{own.suffix}",), own.kind, own.labels, own.text)


def of_operator() -> Iterator[Described]:
    """What the operator says; those of its process are not ours."""
    for metric in vars(OperatorMetrics()).values():
        if isinstance(metric, MetricWrapperBase):
            family = next(iter(metric.describe()))
            name = f"{family.name}_total" if family.type == "counter" else family.name
            # prometheus_client has no public way to ask for the names of labels.
            yield Described((name,), family.type, tuple(metric._labelnames), family.documentation)


SECTIONS = {"cameras": of_cameras, "gateway": of_gateway, "operator": of_operator}


def table(metrics: Iterable[Described]) -> str:
    """A Markdown table."""
    head = "| name | type | unit | labels | what |\n|---|---|---|---|---|"
    return "\n".join((head, *(metric.row() for metric in metrics)))


def written(page: str) -> str:
    """The page with its tables brought up to date.

    Raises:
        ValueError: It has no place for one of them.
    """
    for name, metrics in SECTIONS.items():
        begin, end = f"<!-- {name}: written by make docs -->", f"<!-- /{name} -->"
        head, found, rest = page.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{PAGE.name} has no place for {name}: {begin} … {end}")
        page = f"{head}{begin}\n\n{table(metrics())}\n\n{end}{tail}"
    return page


def main() -> int:
    """Write the page, or with --check say that it is stale."""
    before = PAGE.read_text()
    after = written(before)
    if before == after:
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{PAGE.name} is not up to date: run make docs", file=sys.stderr)
        return 1
    PAGE.write_text(after)
    print(f"wrote {PAGE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
