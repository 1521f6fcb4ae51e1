"""Just enough of Grafana's dashboard format: panels, variables and a page, as plain data.

A panel is an entry of a table in `monitoring/boards`; all that Grafana wants besides is written here, once.
Widths are in Grafana's 24 columns; panels flow from left to right, row after row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

SCHEMA_VERSION = 41
COLUMNS = 24
Json = dict[str, Any]
DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
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
            document = _panel(panel, number, place)
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


def _panel(panel: Panel, number: int, place: Json) -> Json:
    instant = panel.kind == "table" or (panel.kind == "stat" and panel.calculation == "lastNotNull")
    form = "table" if panel.kind == "table" else "time_series"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "gridPos": place,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": instant,
                "range": not instant,
                "format": form,
            }
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": list(_overrides(panel))},
        "options": _options(panel),
        **({"transformations": _transformations(panel)} if panel.kind == "table" else {}),
    }


def _defaults(panel: Panel) -> Json:
    steps: list[Json] = [{"color": panel.base, "value": None}]
    steps += [{"color": color, "value": value} for value, color in panel.thresholds]
    defaults: Json = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
        "mappings": _mappings(panel.mappings),
    }
    if panel.kind == "timeseries":
        defaults["color"] = {"mode": "palette-classic"}
        defaults["custom"] = {
            "drawStyle": "bars" if panel.bars else "line",
            "lineWidth": 1,
            "fillOpacity": 60 if panel.bars else 25 if panel.stack else 5,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stack else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.thresholds else "off"},
        }
    elif panel.kind == "state-timeline":
        defaults["color"] = {"mode": "thresholds"}
        defaults["custom"] = {"lineWidth": 0, "fillOpacity": 70, "spanNulls": False}
    else:
        defaults["color"] = {"mode": "thresholds"}
    if panel.least is not None and panel.kind == "timeseries":
        defaults["min"] = panel.least
    if panel.most is not None and panel.kind == "timeseries":
        defaults["max"] = panel.most
    if panel.kind == "stat":
        defaults["noValue"] = "none"
    return defaults


def _options(panel: Panel) -> Json:
    reduce = {"calcs": [panel.calculation], "fields": "", "values": False}
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
    if panel.kind == "stat":
        return {
            "reduceOptions": reduce,
            "colorMode": "value",
            "graphMode": "none" if panel.calculation == "lastNotNull" else "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": "name" if panel.name_only else "auto",
            "wideLayout": True,
        }
    if panel.kind == "timeseries":
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    if panel.kind == "state-timeline":
        return {
            "legend": {**legend, "showLegend": False},
            "mergeValues": True,
            "rowHeight": 0.8,
            "showValue": "auto",
            "tooltip": {"mode": "single", "sort": "none"},
        }
    return {
        "showHeader": True,
        "cellHeight": "sm",
        "footer": {"show": False, "reducer": ["sum"], "fields": ""},
    }


def _mappings(mappings: Mapping[float, tuple[str, Color]]) -> list[Json]:
    if not mappings:
        return []
    options = {
        f"{value:g}": {"text": text, "color": color, "index": index}
        for index, (value, (text, color)) in enumerate(mappings.items())
    }
    return [{"type": "value", "options": options}]


def _overrides(panel: Panel) -> Iterator[Json]:
    for heading, unit in panel.column_units.items():
        yield _override(heading, "unit", unit)
    for heading, mappings in panel.column_mappings.items():
        yield _override(heading, "mappings", _mappings(mappings))
    if panel.link:
        url = (
            "/d/camfleet-camera?${datasource:queryparam}&${cluster:queryparam}&${job:queryparam}&${__url_time_range}"
            "&var-namespace=${__data.fields.Namespace}&var-camera=${__data.fields.Camera}"
        )
        yield _override(panel.link, "links", [{"title": "Open the camera", "url": url, "targetBlank": False}])


def _override(heading: str, name: str, value: object) -> Json:
    return {
        "matcher": {"id": "byName", "options": heading},
        "properties": [{"id": name, "value": value}],
    }


def _transformations(panel: Panel) -> list[Json]:
    """One row for each set of labels; the columns that are named, in that order."""
    organize: Json = {
        "renameByName": dict(panel.columns),
        "indexByName": {name: index for index, name in enumerate(panel.columns)},
    }
    keep = {"include": {"names": list(panel.columns)}}
    return [
        {"id": "merge", "options": {}},
        {"id": "filterFieldsByName", "options": keep},
        {"id": "organize", "options": organize},
    ]


def wide(panel: Panel, width: int, height: int | None = None) -> Panel:
    """The same panel in another size."""
    return replace(panel, width=width, height=height or panel.height)
