"""Bring the chart's derived files up to date: copies of CRDs, dashboards and rules, and the table of values.

`make chart` runs it; tests/chart checks that nothing is left to do. With `--check` it changes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "camfleet"
COPIES = {
    "crds": "crds/*.yaml",
    "dashboards": "monitoring/dashboards/*.json",
    "rules": "monitoring/rules/*.yaml",
}
"""Folder below the chart's `files`, and what is copied there: Helm packs nothing from outside of a chart."""
BEGIN, END = "<!-- values: written by make chart -->", "<!-- /values -->"


def stale() -> dict[Path, str | None]:
    """What is not up to date: the text that a file should have, or None if it should not be there."""
    wanted: dict[Path, str | None] = {
        CHART / "files" / folder / source.name: source.read_text()
        for folder, pattern in COPIES.items()
        for source in ROOT.glob(pattern)
    }
    wanted |= {copy: None for copy in (CHART / "files").rglob("*") if copy.is_file() and copy not in wanted}
    readme = CHART / "README.md"
    head, _, rest = readme.read_text().partition(BEGIN)
    tail = rest.partition(END)[2]
    wanted[readme] = f"{head}{BEGIN}\n\n{values_table()}\n{END}{tail}"
    return {
        path: text for path, text in wanted.items() if (path.read_text() if path.exists() else None) != text
    }


def values_table() -> str:
    """The values as a Markdown table: descriptions from the schema, defaults from values.yaml."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    lines = ["| value | default | |", "|---|---|---|"]
    for path, node in leaves(schema):
        default: Any = values
        for key in path:
            default = default.get(key)
        shown = json.dumps(default, ensure_ascii=False)
        text = " ".join(node["description"].split()).replace("|", "\\|")
        choices = ", ".join(f"`{choice}`" for choice in node.get("enum", ()))
        lines.append(f"| `{'.'.join(path)}` | `{shown}` | {text}{f' One of {choices}.' if choices else ''} |")
    return "\n".join(lines) + "\n"


def leaves(
    schema: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every value that the schema names and that holds no others, with its path; `global` is Helm's own."""
    for key, node in schema["properties"].items():
        if (*path, key) == ("global",):
            continue
        if "properties" in node:
            yield from leaves(node, (*path, key))
        else:
            yield (*path, key), node


def main() -> int:
    """Write what is stale, or name it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something is stale")
    check = parser.parse_args().check
    found = stale()
    for path, text in found.items():
        print(
            f"{'stale' if check else 'written' if text is not None else 'removed'}: {path.relative_to(ROOT)}"
        )
        if check:
            continue
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
