"""Generated Cameras and profiles: near the border of what is allowed, on both sides of it.

`objects` follows the schema of the CustomResourceDefinition, forms included. `damaged` takes such an object
and changes one to three places of it: a wrong type, a bound passed, a character slipped in, a field lost or
invented.
"""

from __future__ import annotations

import copy
import re
from typing import Any

from crd_api import camera, profile
from crds.generate import object_schema
from hypothesis import assume
from hypothesis import strategies as st

from camfleet_protocol.camera import Camera, CameraProfile
from camfleet_protocol.fields import RULES

Schema = dict[str, Any]
_MATCHES = re.compile(r"(?<!!)(?:self|key)\.matches\(r'(.*?)'\)")
_ASCII = st.characters(min_codepoint=32, max_codepoint=126)

hosts = st.sampled_from(
    ["192.0.2.10", "cam-1.example", "[2001:db8::5]", "[::1]", "a_b", "10.0.0.5:554", "h:1"]
)
rests = st.sampled_from(["", "/", "/stream1", "/live?channel=1&sub=0", "?a=b@c", "#x", "/a%20b", "//a:b@c"])


def _urls(schemes: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.builds(lambda *parts: "".join(parts), st.sampled_from(schemes), hosts, rests)


_SPECIAL = {
    ("rtsp", "url"): _urls(("rtsp://", "rtsps://")),
    ("rtsp", "detectUrl"): _urls(("rtsp://", "rtsps://")),
    ("http", "url"): _urls(("http://", "https://")),
    ("file", "path"): st.sampled_from(["a.mp4", "clips/ä b.mp4", "..a/b..", "a", "日本.mkv"]),
}


def _texts(schema: Schema) -> st.SearchStrategy[str]:
    patterns = [m for rule in schema.get(RULES, ()) for m in _MATCHES.findall(rule["rule"])]
    low, high = schema.get("minLength", 0), schema["maxLength"]
    if patterns:
        return st.from_regex(patterns[0].replace("$", r"\Z"), fullmatch=True, alphabet=_ASCII).filter(
            lambda text: low <= len(text) <= high
        )
    return st.text(_ASCII, min_size=low, max_size=min(high, 40))


def _numbers(schema: Schema) -> st.SearchStrategy[Any]:
    low, high, step = schema["minimum"], schema["maximum"], schema.get("multipleOf", 1)
    edges = st.sampled_from([low, high])
    if schema["type"] == "integer":
        return edges | st.integers(-(-low // step), high // step).map(lambda number: number * step)
    return edges | st.floats(low, high) | st.integers(1, int(high))


def _objects(schema: Schema, name: str) -> st.SearchStrategy[dict[str, Any]]:
    if name == "source":
        kinds = [
            st.fixed_dictionaries({kind: values(inner, kind)}) for kind, inner in schema["properties"].items()
        ]
        return st.one_of(kinds)
    fields = {
        key: _SPECIAL[name, key] if (name, key) in _SPECIAL else values(inner, key)
        for key, inner in schema["properties"].items()
    }
    required = set(schema.get("required", ()))
    return st.fixed_dictionaries(
        {key: value for key, value in fields.items() if key in required},
        optional={key: value for key, value in fields.items() if key not in required},
    )


def values(schema: Schema, name: str = "") -> st.SearchStrategy[Any]:
    """Values of a schema."""
    if schema.get("x-kubernetes-int-or-string"):
        return st.integers(0, 64) | st.sampled_from(["500m", "1.5Gi", "0", "12", "1.25"])
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        leaf = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(_ASCII, max_size=8)
        anything = st.recursive(
            leaf,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(_ASCII), inner, max_size=3),
        )
        return st.dictionaries(st.text(_ASCII, max_size=8), anything, max_size=3)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema["type"]
    if kind == "boolean":
        return st.booleans()
    if kind == "string":
        return _texts(schema)
    if kind in ("integer", "number"):
        return _numbers(schema)
    if kind == "array":
        return st.lists(values(schema["items"], name), max_size=3)
    if "additionalProperties" in schema:
        keys = st.sampled_from(["cpu", "memory", "example.com/zone", "a.b-c_d"])
        return st.dictionaries(keys, values(schema["additionalProperties"]), max_size=3)
    return _objects(schema, name)


def _spec(model: type[Camera] | type[CameraProfile]) -> st.SearchStrategy[dict[str, Any]]:
    return values(object_schema(model)["properties"]["spec"], "spec")


names = st.sampled_from(["gate", "a", "0", "a--b", "x" * 63])
objects = st.builds(camera, _spec(Camera), names) | st.builds(profile, _spec(CameraProfile), names)

# ── Damage ──────────────────────────────────────────────────────────────────────────────────────────────

HUGE = 10**30
JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 5.0, 2.5, 1e9, -0.0, HUGE, -(2**63), 2**53, 2**53 + 2, 0.05),
    *(
        float("nan"),
        float("inf"),
        "",
        " ",
        "a",
        "A",
        "a b",
        "-a",
        "a-",
        "a.b",
        "a/b",
        "/a",
        "x" * 63,
        "x" * 64,
    ),
    *("x" * 254, "x" * 600, "x" * 3000, "ü" * 63, "ü" * 1024, "日" * 1025, "a\n", "\ta", "a\x00b", "a\x7fb"),
    *(
        "a\x85b",
        "a\u2028b",
        "..",
        "a/../b",
        "../a",
        "a/..",
        "5",
        "true",
        "null",
        "1Gi",
        "-1",
        "1e3",
        "1n",
        "٣",
    ),
    *("rtsp://h/a", "http://h/a", "rtsp://u:p@h/a", "rtsp://@h/a", "RTSP://h/a", "rtsp:/h/a", "rtsp://"),
    *("rtsp://h:0/", "rtsp://h:65535/", "rtsp://h:65536/", "rtsp://h:/", "rtsp://[::1]", "rtsp://[::1/"),
    *(
        "rtsp://[1:2]/",
        "rtsp://[::ffff:1.2.3.4]/",
        "rtsp://h\\@e/",
        "rtsp://h/a b",
        "rtsp://ü/",
        "rtsp://h\n",
    ),
    *("nvidia.com/gpu", "kubernetes.io/gpu", "a.kubernetes.io/b", "requests.a/b", "a/b/c", "/dev/video0"),
    *("/dev/../etc", "/dev/", "Exists", "NoExecute", [], {}, [None], [{}], ["a"], {"a": None}, {"a": "b"}),
    *({"a b": "c"}, {"": "c"}, {f"k{n}": "v" for n in range(40)}, [{"operator": "Exists"}] * 33, ["a"] * 9),
    *({"name": "a"}, {"path": "a.mp4"}, {"url": "rtsp://h/a"}, {"testPattern": {}}, {"enabled": None}),
)


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every container of a document with each of its keys or indexes."""
    found: list[tuple[Any, Any]] = []
    pending = [document]
    while pending:
        node = pending.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            found.append((node, key))
            if isinstance(node[key], dict | list):
                pending.append(node[key])
    return found


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """An object with one to three wrong (or harmless) changes."""
    document = copy.deepcopy(draw(objects))
    for _ in range(draw(st.integers(1, 3))):
        candidates = places({"spec": document["spec"]})[1:]
        candidates.append((document["metadata"], "name"))
        node, key = draw(st.sampled_from(candidates))
        old = node[key]
        change = draw(st.sampled_from(["junk", "junk", "tweak", "tweak", "drop", "invent", "kind"]))
        if change == "drop" and node is not document["metadata"]:
            del node[key]
        elif change == "invent" and isinstance(old, dict):
            old[draw(st.sampled_from(["sauce", "Url", "fps ", "a b", "width"]))] = draw(st.sampled_from(JUNK))
        elif change == "kind" and isinstance(source := document["spec"].get("source"), dict):
            other = draw(st.sampled_from(["testPattern", "file", "rtsp"]))
            source[other] = draw(st.sampled_from([None, {}, {"path": "a"}, {"url": "rtsp://h"}]))
        elif change == "tweak" and isinstance(old, str):
            at = draw(st.integers(0, len(old)))
            node[key] = old[:at] + draw(st.characters(exclude_categories=["Cs"])) + old[at:]
        elif change == "tweak" and isinstance(old, int | float) and not isinstance(old, bool):
            node[key] = draw(st.sampled_from([old + 1, old - 1, -old, old * 2, float(old), str(old)]))
        else:
            node[key] = copy.deepcopy(draw(st.sampled_from(JUNK)))
    # In what is only passed on, the API server takes integers that the models refuse: a test of its own.
    assume(str(HUGE) not in repr(document["spec"].get("placement") or ""))
    return document
