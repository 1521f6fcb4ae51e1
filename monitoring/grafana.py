"""Just enough of Grafana's dashboard format: rows of panels, variables and a page.

Widths are in Grafana's 24 columns; panels flow from left to right, row after row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from monitoring.panel_document import DATASOURCE, Json, panel_document
from monitoring.panels import Panel

SCHEMA_VERSION = 41
COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and its panels; collapsed ones are asked for when somebody opens them."""

    title: str
    panels: Sequence[Panel]
    collapsed: bool = False


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a dashboard that lists a label's values."""

    name: str
    label: str
    query: str
    multi: bool = True
    all_value: str = ".*"

    def document(self) -> Json:
        """The variable as Grafana wants it."""
        chosen = {"text": ["All"], "value": ["$__all"]} if self.multi else {}
        return {
            "name": self.name,
            "label": self.label,
            "type": "query",
            "datasource": DATASOURCE,
            "definition": self.query,
            "query": {
                "qryType": 1,
                "query": self.query,
                "refId": "PrometheusVariableQueryEditor-VariableQuery",
            },
            "refresh": 2,
            "regex": "",
            "sort": 1,
            "hide": 0,
            "skipUrlSync": False,
            "multi": self.multi,
            "includeAll": self.multi,
            "allValue": self.all_value if self.multi else None,
            "current": chosen,
            "options": [],
        }


@dataclass(frozen=True, slots=True)
class Annotation:
    """Marks on the time axis, where a query has a value."""

    name: str
    expr: str
    title: str
    color: str = "orange"
    enabled: bool = True

    def document(self) -> Json:
        """The annotation as Grafana wants it."""
        return {
            "name": self.name,
            "datasource": DATASOURCE,
            "enable": self.enabled,
            "hide": False,
            "iconColor": self.color,
            "expr": self.expr,
            "step": "60s",
            "titleFormat": self.title,
            "textFormat": "",
            "tagKeys": "",
            "useValueForTime": False,
        }


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page."""

    uid: str
    title: str
    text: str
    variables: Sequence[Variable]
    rows: Sequence[Row]
    annotations: Sequence[Annotation] = ()
    since: str = "now-1h"
    points: int | None = None
    """At most so many points in time are asked for; Grafana takes one for each pixel otherwise."""
    refresh: str = "30s"

    def document(self) -> Json:
        """The dashboard as a file for Grafana."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.text,
            "tags": ["camfleet"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "refresh": self.refresh,
            "time": {"from": self.since, "to": "now"},
            "timepicker": {},
            "timezone": "",
            "fiscalYearStartMonth": 0,
            "links": [_links()],
            "annotations": {"list": [_BUILT_IN, *(a.document() for a in self.annotations)]},
            "templating": {"list": [_datasource(), *(v.document() for v in self.variables)]},
            "panels": list(_layout(self.rows, self.points)),
        }


# ── Private parts ───────────────────────────────────────────────────────────────────────────────────────

_BUILT_IN: Json = {
    "builtIn": 1,
    "name": "Annotations & Alerts",
    "type": "dashboard",
    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
    "enable": True,
    "hide": True,
    "iconColor": "rgba(0, 211, 255, 1)",
}


def _datasource() -> Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "hide": 0,
        "skipUrlSync": False,
        "multi": False,
        "includeAll": False,
        "current": {},
        "options": [],
    }


def _links() -> Json:
    return {
        "type": "dashboards",
        "title": "Camfleet",
        "tags": ["camfleet"],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _layout(rows: Sequence[Row], points: int | None) -> Iterator[Json]:
    """Panels and rows with their places; ids count up."""
    number = y = 0
    for row in rows:
        number += 1
        heading: Json = {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": row.collapsed,
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            "panels": [],
        }
        y += 1
        x = tallest = 0
        placed: list[Json] = []
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            number += 1
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            document = panel_document(panel, number=number, place=place)
            if points is not None and panel.kind == "timeseries":
                document["maxDataPoints"] = points
            placed.append(document)
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
        if row.collapsed:
            yield {**heading, "panels": placed}
        else:
            yield heading
            yield from placed
