"""Panels of a dashboard, as plain data: an entry of a table in `monitoring/boards` is one of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Color = Literal["green", "yellow", "orange", "red", "blue", "text", "transparent"]


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel; `legend` as in Grafana, `{{label}}`."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        kind: Grafana's type of panel.
        title: What it shows, in a few words.
        text: What it shows and what to make of it.
        queries: What it asks.
        unit: Grafana's name of the unit.
        width: Of 24 columns.
        height: Each is some 30 pixels.
        thresholds: Colour from a value on; the colour below the first is `base`.
        base: Colour below the first threshold.
        mappings: What to write instead of a value, and its colour.
        stack: Draw series on top of each other.
        bars: Draw bars instead of lines: for what happened, not for what is.
        least, most: Where the axis begins and ends at least.
        calculation: What a stat makes of its series.
        name_only: A stat shows its series' names instead of values.
        columns: Of a table: label or `Value #A` → heading, in order; all else is hidden.
        column_units: Of a table: heading → unit.
        column_mappings: Of a table: heading → mappings.
        link: Heading of the table's column that leads to the camera's page.
    """

    kind: Literal["stat", "timeseries", "table", "state-timeline"]
    title: str
    text: str
    queries: Sequence[Query]
    unit: str = "short"
    width: int = 8
    height: int = 8
    thresholds: Sequence[tuple[float, Color]] = ()
    base: Color = "green"
    mappings: Mapping[float, tuple[str, Color]] = field(default_factory=dict)
    stack: bool = False
    bars: bool = False
    least: float | None = 0
    most: float | None = None
    calculation: str = "lastNotNull"
    name_only: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    column_units: Mapping[str, str] = field(default_factory=dict)
    column_mappings: Mapping[str, Mapping[float, tuple[str, Color]]] = field(default_factory=dict)
    link: str = ""


def stat(title: str, text: str, expr: str, **more: Any) -> Panel:
    """One number."""
    legend = more.pop("legend", "")
    return Panel("stat", title, text, [Query(expr, legend)], **{"width": 4, "height": 4, **more})


def graph(title: str, text: str, *queries: tuple[str, str], **more: Any) -> Panel:
    """Lines over time, from pairs of query and legend."""
    return Panel("timeseries", title, text, [Query(*query) for query in queries], **more)
