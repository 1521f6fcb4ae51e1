"""The hub by itself, with a clock of the test's own."""

from __future__ import annotations

from collections import Counter

import pytest

from camfleet_gateway import hub as hub_module
from camfleet_gateway.clock import LONGEST_STEP_SECONDS, Clock, RunningTime
from camfleet_gateway.events import EventLog
from camfleet_gateway.hub import Hub
from camfleet_gateway.memory_directory import MemoryDirectory
from camfleet_gateway.status import facts_by_hand
from camfleet_gateway.telemetry import Telemetry
from camfleet_protocol.messages import (
    CameraState,
    Configure,
    Demand,
    FrameCounts,
    SourceState,
    SourceStats,
    Stats,
    WorkerHello,
)
from camfleet_protocol.settings import Settings
from support.gateway_process import test_pattern


def hub_with(clock: Clock, directory: MemoryDirectory, events: EventLog) -> Hub:
    return Hub(
        directory,
        clock=clock,
        events=events,
        linger_seconds=0,
        max_viewers_per_camera=1,
        refused=Counter(),
    )


async def test_a_number_means_one_camera_for_ever_and_few_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_module, "MAX_RETIRED_NUMBERS", 2)
    directory = MemoryDirectory()
    hub = hub_with(Clock(), directory, EventLog())

    async def number(name: str) -> int:
        camera = test_pattern(name)
        await directory.create(camera)
        given = hub.channels[camera.id].number
        await directory.delete(camera.id)
        return given

    assert [await number(name) for name in ("a", "b", "a", "c", "a", "d")] == [1, 2, 1, 3, 1, 4]
    assert await number("b") == 5, "forgotten: a new number, never that of another"
    assert await number("d") == 4


def test_a_pause_of_our_own_does_not_count() -> None:
    real = [100.0]
    clock = RunningTime(lambda: real[0])
    begin = clock()
    real[0] += 0.25
    assert clock() - begin == 0.25
    real[0] += 3600
    assert clock() - begin == 0.25 + LONGEST_STEP_SECONDS
    assert clock() - begin == 0.25 + LONGEST_STEP_SECONDS, "it is taken off once and for all"
    real[0] += 0.25
    assert clock() - begin == 0.5 + LONGEST_STEP_SECONDS


class _Worker:
    """A publisher that is just there."""

    def __init__(self, camera: str, clock: Clock) -> None:
        self.hello = WorkerHello(camera=camera)
        self.telemetry = Telemetry(clock)

    def demand(self, demand: Demand) -> None: ...

    def configure(self, configure: Configure) -> None: ...

    def command(self, name: str) -> None: ...

    def leave(self, code: int, reason: str, *, retry: bool) -> None: ...


async def test_after_a_pause_of_ours_no_camera_is_stale_and_no_event_told() -> None:
    real = [100.0]
    clock = Clock(monotonic=RunningTime(lambda: real[0]))
    events = EventLog()
    hub = hub_with(clock, MemoryDirectory(), events)
    worker = _Worker("default.door", clock)
    channel = hub.channel_for_worker("default.door")
    channel.connect(worker)
    worker.telemetry.picture(clock.monotonic())

    def after(seconds: float) -> CameraState:
        real[0] += seconds
        hub.refresh(channel)
        assert channel.view is not None
        return channel.view.state

    assert after(0.25) is CameraState.LIVE
    assert after(3600) is CameraState.LIVE, "what has come meanwhile is still unread"
    assert clock.monotonic() - worker.telemetry.heard_at < 1.0
    assert not events.pending
    assert [after(0.25) for _ in range(24)][-1] is CameraState.STALE, "time in which we run does count"
    assert [event.type for event in events.pending] == ["camera.stale"]


def test_the_first_statistics_of_a_session_make_no_picture_new() -> None:
    """A gateway that has just started hears of a picture that the worker may have had long ago."""
    real = [100.0]
    clock = Clock(monotonic=lambda: real[0], wall=lambda: 1.8e9 + real[0])
    told = Stats(
        source=SourceStats(state=SourceState.CONNECTED, fps=10.0),
        frames=FrameCounts(captured=7, inferred=7),
        last_frame_ns=5,
        last_inference_ns=4,
    )
    telemetry = Telemetry(clock)
    for _ in range(3):
        telemetry.update(told)
        assert (telemetry.age(real[0]), telemetry.picture_time, telemetry.inference_time) == (None, 0, 0)
        real[0] += 1
    telemetry.update(told.model_copy(update={"last_frame_ns": 6}))
    assert (telemetry.age(real[0]), telemetry.picture_time, telemetry.inference_time) == (0, 1.8e9 + 103, 0)
    real[0] += 1
    telemetry.update(told.model_copy(update={"last_frame_ns": 6, "last_inference_ns": 6}))
    assert (telemetry.age(real[0]), telemetry.inference_time) == (1, 1.8e9 + 104)

    fresh = Telemetry(clock)
    fresh.update(told.model_copy(update={"last_frame_ns": 0, "last_inference_ns": 0}))
    fresh.update(told)
    assert (fresh.age(real[0]), fresh.inference_time) == (0, 1.8e9 + 104), "the first of a new worker is new"


def test_a_camera_run_by_hand_is_shown_as_its_worker_says() -> None:
    given = Settings.model_validate({"inference": {"fps": 2}, "stream": {"width": 320}, "site": "berlin"})
    facts = facts_by_hand("default.hall", WorkerHello(camera="default.hall", settings=given.values()))
    assert (facts.site, facts.ai_enabled) == ("berlin", True)
    assert (facts.settings["inference"]["fps"], facts.settings["stream"]["width"]) == (2, 320)
    off = given.model_copy(update={"inference": given.inference.model_copy(update={"enabled": False})})
    assert not facts_by_hand("a.b", WorkerHello(camera="a.b", settings=off.values())).ai_enabled
    for rubbish in ({}, {"inference": 5}, {"stream": {"fps": -1}}, {"site": "<b>"}):
        facts = facts_by_hand("a.b", WorkerHello(camera="a.b", settings=rubbish))
        assert (facts.site, facts.ai_enabled, facts.settings) == ("", False, {}), rubbish
