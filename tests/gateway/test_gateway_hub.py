"""The hub by itself, with a clock of the test's own."""

from __future__ import annotations

from collections import Counter

import pytest

from camfleet_gateway import hub as hub_module
from camfleet_gateway.clock import Clock
from camfleet_gateway.events import EventLog
from camfleet_gateway.hub import Hub
from camfleet_gateway.memory_directory import MemoryDirectory
from support.gateway_process import test_pattern


async def test_a_number_means_one_camera_for_ever_and_few_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_module, "MAX_RETIRED_NUMBERS", 2)
    directory = MemoryDirectory()
    hub = Hub(
        directory,
        clock=Clock(),
        events=EventLog(),
        linger_seconds=0,
        max_viewers_per_camera=1,
        refused=Counter(),
    )

    async def number(name: str) -> int:
        camera = test_pattern(name)
        await directory.create(camera)
        given = hub.channels[camera.id].number
        await directory.delete(camera.id)
        return given

    assert [await number(name) for name in ("a", "b", "a", "c", "a", "d")] == [1, 2, 1, 3, 1, 4]
    assert await number("b") == 5, "forgotten: a new number, never that of another"
    assert await number("d") == 4
