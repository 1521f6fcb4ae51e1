"""Pages of gateways, read camera by camera, and what is published from one scrape to the next."""

from __future__ import annotations

from typing import Any

import pytest

from camfleet_operator.cluster.health.evaluator import Evaluator
from camfleet_operator.cluster.health.scrape import camera_of, labels_of, parse
from camfleet_operator.cluster.health.verdicts import Criteria, Health, Verdict

GOOD, BAD, UNKNOWN = Verdict.HEALTHY, Verdict.UNHEALTHY, Verdict.UNKNOWN
CRITERIA = Criteria(stall=20, first_frame=60)


class Page:
    """A gateway's page; every camera in it is fine unless said otherwise."""

    def __init__(self, time: float = 1000.0) -> None:
        self.time: object = time
        self.rows: list[tuple[str, dict[str, object]]] = []

    def camera(self, name: str = "door", **values: object) -> Page:
        fine = {"worker": 1, "source": 1, "frame": self.time, "inference": self.time, "errors": {}}
        self.rows.append((f'namespace="n",camera="{name}"', {**fine, **values}))
        return self

    def gone(self, name: str = "door") -> Page:
        """No worker here: the other series are not there."""
        return self.camera(name, worker=0, source=None, frame=None, inference=None)

    def text(self) -> bytes:
        lines = [
            "# HELP camfleet_gateway_time_seconds The clock.",
            "# TYPE camfleet_gateway_time_seconds gauge",
            f"camfleet_gateway_time_seconds {self.time}",
            "# TYPE camfleet_camera_info gauge",
            *(f'camfleet_camera_info{{{labels},node="x"}} 1' for labels, _ in self.rows),
        ]
        for key, family in (
            ("worker", "worker_connected"),
            ("source", "source_connected"),
            ("frame", "last_frame_timestamp_seconds"),
            ("inference", "last_inference_timestamp_seconds"),
        ):
            lines += [f"# HELP camfleet_camera_{family} Text.", f"# TYPE camfleet_camera_{family} gauge"]
            lines += [
                f"camfleet_camera_{family}{{{labels}}} {values[key]}"
                for labels, values in self.rows
                if values[key] is not None
            ]
        name = "camfleet_camera_source_errors_total"
        lines += [f"# HELP {name} Text.", f"# TYPE {name} counter"]
        for labels, values in self.rows:
            errors = values["errors"]
            assert isinstance(errors, dict)
            lines += [f'{name}{{{labels},reason="{reason}"}} {count}' for reason, count in errors.items()]
        return ("\n".join(lines) + "\n").encode()


class World:
    """An evaluator that looks every ten seconds."""

    def __init__(self, criteria: Criteria = CRITERIA, cameras: tuple[str, ...] | None = ("n.door",)) -> None:
        self.evaluator = Evaluator(lambda _: criteria)
        self.cameras = cameras
        self.now = 100.0

    def look(self, *pages: Page, complete: bool = True, seconds: float = 10.0) -> set[str]:
        self.now += seconds
        scrapes = [parse(page.text()) for page in pages]
        assert None not in scrapes
        return self.evaluator.tick(
            self.now, [s for s in scrapes if s is not None], complete=complete, cameras=self.cameras
        )

    @property
    def health(self) -> Health:
        found = self.evaluator.health("n.door")
        assert found is not None
        return found

    @property
    def reason(self) -> str:
        return self.health.reason


def fine() -> World:
    world = World()
    assert world.look(Page().camera()) == {"n.door"}
    assert (world.health.verdict, world.reason) == (GOOD, "Streaming")
    return world


def test_labels_and_cameras_are_each_others_inverse() -> None:
    assert labels_of("site-a.door-1") == b'namespace="site-a",camera="door-1"'
    assert camera_of(labels_of("site-a.door-1")) == "site-a.door-1"


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"<html>not found</html>",
        b"# TYPE camfleet_gateway_time_seconds gauge\ncamfleet_gateway_time_seconds 5\n",
        Page(float("nan")).camera().text(),
        Page()
        .camera()
        .text()
        .replace(b"camfleet_gateway_time_seconds 1000", b"camfleet_gateway_time_seconds x"),
        Page()
        .camera()
        .text()
        .replace(
            b"camfleet_gateway_time_seconds 1000",
            b"camfleet_gateway_time_seconds 1\ncamfleet_gateway_time_seconds 1000",
        ),
    ],
)
def test_what_is_no_gateways_page(page: bytes) -> None:
    assert parse(page) is None


def test_nothing_new_is_nothing_changed_but_ages_go_on() -> None:
    world = fine()
    assert world.look(Page(1010.0).camera(frame=1007.5)) == set()
    assert world.health.frame_age == 2.5
    assert world.evaluator.judged_at("n.door") == world.now
    assert world.evaluator.counts() == {"Healthy": 1, "Unhealthy": 0, "Unknown": 0}


def test_bad_news_needs_two_readings_and_good_news_one() -> None:
    world = fine()
    judged = world.evaluator.judged_at("n.door")
    assert world.look(Page(1010.0).gone()) == set()
    assert world.reason == "Streaming"
    assert world.evaluator.judged_at("n.door") == judged, "it rests on an earlier scrape"
    assert world.look(Page(1020.0).gone()) == {"n.door"}
    assert (world.health.verdict, world.reason) == (BAD, "WorkerNotConnected")
    assert (world.health.worker_connected, world.health.source_connected, world.health.frame_age) == (
        False,
        None,
        None,
    )
    assert world.look(Page(1030.0).camera()) == {"n.door"}
    assert world.reason == "Streaming"


def test_a_single_bad_reading_is_forgotten() -> None:
    world = fine()
    for _ in range(3):
        assert world.look(Page().gone()) == set()
        assert world.look(Page().camera()) == set()


def test_a_new_camera_is_told_at_once_what_is_missing() -> None:
    world = World()
    assert world.look(Page().gone()) == {"n.door"}
    assert world.reason == "WorkerNotConnected"
    assert world.look(Page().camera(source=0, frame=0, inference=0)) == {"n.door"}
    assert world.reason == "WaitingForFirstFrame"
    assert world.look(Page().camera(source=0, frame=0, inference=0), seconds=59) == set()
    assert world.look(Page().camera(source=1, frame=0, inference=0), seconds=1) == {"n.door"}
    assert world.reason == "NoFirstFrame"
    assert world.look(Page().camera()) == {"n.door"}
    assert world.reason == "Streaming"


def test_an_expected_worker_starts_from_nothing() -> None:
    world = fine()
    world.evaluator.expect("n.door", world.now + 15)
    assert world.evaluator.health("n.door") is None
    assert world.evaluator.judged_at("n.door") == 0
    assert world.look(Page().camera()) == set(), "this scrape began before"
    assert world.look(Page().camera()) == {"n.door"}, "the same verdict as before, on another worker"


def test_the_reason_is_the_error_that_was_counted_last() -> None:
    world = fine()
    lost: dict[str, Any] = {"source": 0, "frame": 1000.0}

    def look(**errors: int) -> str:
        world.look(Page(1005.0).camera(**lost, errors=errors))
        world.look(Page(1005.0).camera(**lost, errors=errors))
        return world.reason

    assert look() == "SourceDisconnected"
    assert look(source_lost=1) == "SourceLost"
    assert look(source_lost=1, source_refused=4) == "SourceRefused"
    assert look(source_lost=1, source_refused=4) == "SourceRefused"
    assert look(source_lost=2, source_refused=4) == "SourceLost"
    assert look(source_timeout=1) == "SourceTimeout", "a new worker counts from zero"
    assert look(other=1, source_timeout=1) == "SourceError"
    world.look(Page(1005.0).camera(errors={"source_timeout": 1}))
    assert look(source_timeout=1) == "SourceDisconnected", "what was overcome explains nothing"


def test_an_operator_that_starts_later_finds_the_reason() -> None:
    world = World()
    world.look(Page().camera(source=0, frame=0, inference=0, errors={"source_lost": 9, "auth_failed": 1}))
    assert world.reason == "AuthFailed"
    world = World()
    world.look(Page().camera(source=0, frame=0, inference=0, errors={"source_lost": 9, "source_timeout": 1}))
    assert world.reason == "SourceLost"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (Page().camera(worker="NaN"), "InvalidMetrics"),
        (Page().camera(worker=2), "InvalidMetrics"),
        (Page().camera(source="NaN"), "InvalidMetrics"),
        (Page().camera(source=None), "InvalidMetrics"),
        (Page().camera(frame="+Inf"), "InvalidMetrics"),
        (Page().camera(frame=None), "InvalidMetrics"),
        (Page().camera(inference="x"), "InvalidMetrics"),
        (Page().camera(frame=1010.0), "ContradictoryMetrics"),
        (Page().camera().camera(source=0), "ContradictoryMetrics"),
        (Page(), "NotReported"),
        (Page().camera("other"), "NotReported"),
    ],
)
def test_what_cannot_be_right_is_unknown_after_half_a_minute(broken: Page, reason: str) -> None:
    world = fine()
    assert [world.look(broken) for _ in range(2)] == [set(), set()]
    assert world.reason == "Streaming"
    assert world.look(broken) == {"n.door"}
    assert (world.health.verdict, world.reason) == (UNKNOWN, reason)
    assert (world.health.worker_connected, world.health.streaming) == (None, None)
    assert world.look(broken) == set()
    assert world.look(Page().camera()) == {"n.door"}
    assert world.reason == "Streaming"


def test_the_same_line_twice_is_no_contradiction() -> None:
    world = fine()
    assert world.look(Page().camera().camera()) == set()


def test_only_the_gateway_that_holds_the_worker_is_asked_about_the_rest() -> None:
    world = fine()
    stale = Page(5000.0).gone()  # another clock, hours off
    assert world.look(stale, Page().camera()) == set()
    assert world.look(Page().camera(), stale) == set()
    assert world.health.frame_age == 0
    for _ in range(2):
        world.look(stale, Page(1030.0).camera(frame=1000.0))
    assert world.reason == "Stalled"


def test_two_gateways_that_both_claim_the_worker_contradict_each_other() -> None:
    world = fine()
    for _ in range(2):
        assert world.look(Page().camera(), Page().camera()) == set()
    assert world.look(Page().camera(), Page().camera()) == {"n.door"}
    assert world.reason == "ContradictoryMetrics"


def test_a_silent_gateway_hurts_only_cameras_that_no_other_holds() -> None:
    world = World(cameras=("n.door", "n.gate"))
    here = Page().camera("door").gone("gate")
    there = Page().gone("door").camera("gate")
    assert world.look(here, there) == {"n.door", "n.gate"}
    for _ in range(2):
        assert world.look(here, complete=False) == set(), "kept for half a minute"
    assert world.look(here, complete=False) == {"n.gate"}
    assert world.health.verdict is GOOD
    gate = world.evaluator.health("n.gate")
    assert gate is not None
    assert (gate.verdict, gate.reason) == (UNKNOWN, "GatewayUnreachable")
    assert world.look(Page().camera("door").camera("gate"), complete=False) == {"n.gate"}, "it came over"


def test_no_gateway_ever() -> None:
    world = World()
    assert [world.look(complete=False) for _ in range(3)] == [set(), set(), set()]
    assert world.evaluator.health("n.door") is None
    assert world.look(complete=False) == {"n.door"}
    assert (world.health.verdict, world.reason) == (UNKNOWN, "GatewayUnreachable")
    assert world.evaluator.judged_at("n.door") == world.now


def test_cameras_that_are_gone_are_forgotten() -> None:
    world = World(cameras=None)
    assert world.look(Page().camera("a").camera("b")) == {"n.a", "n.b"}
    assert world.look(Page().camera("b")) == set()
    assert world.evaluator.health("n.a") is None
    assert world.evaluator.counts()["Healthy"] == 1
    assert world.look(complete=False) == set(), "without a page nobody is gone"
    assert world.evaluator.health("n.b") is not None
