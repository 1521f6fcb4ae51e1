"""What people may be called, and how that stands in a table."""

from __future__ import annotations

import csv
import io

import pytest
from pydantic import ValidationError

from camfleet_gateway.people.csv_table import read_table, write_table
from camfleet_gateway.people.views import PersonIn


@pytest.mark.parametrize(
    "name", ["a\u202eb", "\u200b\u200b", "\u200d \u200e", "\u2066Bob\u2069", "\ufeffBob", "a\nb", " "]
)
def test_names_are_what_they_show(name: str) -> None:
    with pytest.raises(ValidationError):
        PersonIn(name=name)


def test_names_of_all_scripts_are_names() -> None:
    for name in (
        "Zoë",
        "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",
        "क\u094d\u200dष",
        "李雷",
        "O'Neill-Müller",
    ):
        assert PersonIn(name=name).name == name


def test_no_spreadsheet_runs_what_somebody_is_called() -> None:
    names = ['=HYPERLINK("http://x")', "+1", "-1", "@a", "'quoted'", "Bob"]
    table = write_table([{"name": name} for name in names])
    cells = [row[1] for row in csv.reader(io.StringIO(table.decode()))][1:]
    assert cells == ["'" + name if name[0] in "=+-@" else name for name in names]
    assert [row.name for row in read_table(table)] == names
