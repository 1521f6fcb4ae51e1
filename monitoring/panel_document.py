"""A panel as Grafana wants it: all that it asks for besides what a `Panel` says is written here, once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from monitoring.panels import Color, Panel

Json = dict[str, Any]
DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}


def panel_document(panel: Panel, *, number: int, place: Json) -> Json:
    """The panel with its id and its place on the page."""
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
