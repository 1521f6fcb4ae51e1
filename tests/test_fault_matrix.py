"""docs/fault-matrix.md names tests that exist, and every test that plays a fault is in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def named() -> set[tuple[str, str]]:
    return set(_NAMED.findall((ROOT / "docs" / "fault-matrix.md").read_text()))


def functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    found = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name for node in found if node.name.startswith("test_")}


def test_the_tests_that_are_named_exist() -> None:
    assert named()
    missing = [f"{file}::{name}" for file, name in named() if name not in functions(ROOT / file)]
    assert missing == []


def test_every_fault_that_is_played_is_in_it() -> None:
    played = {
        (str(file.relative_to(ROOT)), name)
        for file in (ROOT / "tests" / "faults").glob("test_*.py")
        for name in functions(file)
    }
    assert played - named() == set()


def test_every_row_has_its_cells() -> None:
    rows = [
        line for line in (ROOT / "docs" / "fault-matrix.md").read_text().splitlines() if line.startswith("|")
    ]
    assert [row for row in rows if row.count("|") != 5] == []
