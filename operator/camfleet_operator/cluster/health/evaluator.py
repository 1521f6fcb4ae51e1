"""Verdicts of all cameras, from one scrape of all gateways to the next. Pure; the clock is handed in.

Good news is published at once, bad news when two readings in a row agree (unless the camera has not been well
before), and that nothing is known when that has been so for half a minute. Beside what is published,
`Evidence` keeps the last reading as it was and how often in a row it was bad: moves rest on that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from camfleet_operator.cluster.health.readings import CameraReader
from camfleet_operator.cluster.health.scrape import Scrape, camera_of
from camfleet_operator.cluster.health.verdicts import (
    STREAMING,
    Criteria,
    Evidence,
    Health,
    Reading,
    Verdict,
    judge,
)

UNKNOWN_AFTER_SECONDS = 30.0
BAD_READINGS = 2


class _Camera:
    """What is remembered of a camera between two scrapes."""

    __slots__ = (
        "absent", "age", "bad", "bad_since", "gateway", "health", "judged_at", "known_at", "raw", "raw_age",
        "raw_at", "reader", "started_at", "streak", "was_healthy",
    )  # fmt: skip

    def __init__(self, camera_id: str, now: float) -> None:
        self.reader = CameraReader(camera_id)
        self.started_at = float("-inf")
        """Scrapes that began before say nothing of the present worker."""
        self.health: Health | None = None
        """What is published, without its age."""
        self.age: float | None = None
        self.judged_at = 0.0
        self.known_at = now
        """When a reading last told anything, or we began to look."""
        self.bad = 0
        """Readings in a row that were Unhealthy, for the sake of what is published."""
        self.was_healthy = False
        self.raw: Health | None = None
        """What the last reading was judged to be, without its age."""
        self.raw_age: float | None = None
        self.raw_at = now
        self.gateway = ""
        self.absent = False
        self.streak = 0
        """As `bad`, for the sake of moves: a short silence of all gateways counts for nothing."""
        self.bad_since = now

    def evidence(self) -> Evidence | None:
        """The last reading, whatever is published."""
        if self.raw is None:
            return None
        health = replace(self.raw, frame_age=self.raw_age)
        if health.verdict is Verdict.UNHEALTHY:
            return Evidence(health, self.streak, self.bad_since, self.raw_at, self.gateway)
        absent = self.absent and health.verdict is Verdict.UNKNOWN
        return Evidence(health, 0, self.raw_at, self.raw_at, self.gateway, absent)

    def note_flow(self, now: float, age: float, gateway: str) -> None:
        """A reading has found that all is well."""
        self.raw, self.raw_at, self.raw_age = STREAMING, now, age
        self.streak, self.gateway = 0, gateway

    def note(self, now: float, health: Health, reading: Reading) -> None:
        """Keep a reading as evidence."""
        self.raw, self.raw_at, self.raw_age = health, now, reading.frame_age
        self.gateway, self.absent = reading.gateway, reading.absent
        if health.verdict is Verdict.UNHEALTHY:
            if not self.streak:
                self.bad_since = now
            self.streak += 1
        elif not reading.silent or now - self.known_at >= UNKNOWN_AFTER_SECONDS:
            self.streak = 0

    def publish(self, now: float, health: Health, age: float | None) -> bool:
        """Decide whether a verdict is published; returns whether that changes anything but the age."""
        published = self.health
        if published is health is STREAMING:
            self.bad, self.judged_at, self.known_at, self.age = 0, now, now, age
            return False
        if health.verdict is Verdict.UNKNOWN:
            if now - self.known_at < UNKNOWN_AFTER_SECONDS:
                return False
            self.bad = 0
        else:
            self.known_at = now
            if health.verdict is Verdict.UNHEALTHY:
                self.bad += 1
                if self.was_healthy and self.bad < BAD_READINGS:
                    return False
            else:
                self.bad, self.was_healthy = 0, True
        self.judged_at, self.age = now, age
        health = STREAMING if health.verdict is Verdict.HEALTHY else replace(health, frame_age=None)
        if published == health:
            return False
        self.health = health
        return True


class Evaluator:
    """Verdicts of all cameras.

    Args:
        criteria: Timeouts of a camera; asked only when one of them matters, and should be cheap.
    """

    def __init__(self, criteria: Callable[[str], Criteria] = lambda _: Criteria()) -> None:
        self._criteria = criteria
        self._cameras: dict[str, _Camera] = {}

    def health(self, camera_id: str) -> Health | None:
        """What is published of a camera; None if nothing is yet."""
        camera = self._cameras.get(camera_id)
        if camera is None or camera.health is None:
            return None
        return replace(camera.health, frame_age=camera.age)

    def judged_at(self, camera_id: str) -> float:
        """When the scrape began that the published verdict rests on; 0 if there is none."""
        camera = self._cameras.get(camera_id)
        return camera.judged_at if camera is not None and camera.health is not None else 0.0

    def evidence(self, camera_id: str) -> Evidence | None:
        """The last reading of a camera; None if there is none yet of its present worker."""
        camera = self._cameras.get(camera_id)
        return camera.evidence() if camera is not None else None

    def counts(self) -> dict[str, int]:
        """Cameras by published verdict; those without one are Unknown."""
        found = {verdict.value: 0 for verdict in Verdict}
        for camera in self._cameras.values():
            found[(camera.health.verdict if camera.health else Verdict.UNKNOWN).value] += 1
        return found

    def expect(self, camera_id: str, now: float) -> None:
        """A new worker begins: what was said is of another one, and the next verdict is reported anyhow."""
        camera = self._cameras[camera_id] = _Camera(camera_id, now)
        camera.started_at = now

    def tick(
        self,
        now: float,
        scrapes: Sequence[Scrape],
        *,
        complete: bool,
        cameras: Iterable[str] | None = None,
        trouble: str = "",
    ) -> set[str]:
        """Take in what the gateways say. No scrape may be handed in twice.

        Args:
            now: When the first of the scrapes began; monotonic seconds.
            scrapes: What those say that have answered.
            complete: Whether all have.
            cameras: Which cameras there are; None for those that the gateways name.
            trouble: Why there are no scrapes, as a reason.

        Returns:
            The cameras of which something else is published now, their ages aside.
        """
        wanted = self._reported(scrapes) if cameras is None else set(cameras)
        for gone in self._cameras.keys() - wanted:
            del self._cameras[gone]
        trouble = trouble or "GatewayUnreachable"
        changed: set[str] = set()
        for camera_id in wanted:
            camera = self._cameras.get(camera_id)
            if camera is None:
                camera = self._cameras[camera_id] = _Camera(camera_id, now)
            if now < camera.started_at:
                continue
            if (flow := camera.reader.flow(now, scrapes)) is not None:
                camera.note_flow(now, flow.frame_age, flow.gateway)
                news = camera.publish(now, STREAMING, flow.frame_age)
            else:
                reading = camera.reader.read(now, scrapes, complete=complete, trouble=trouble)
                health = judge(reading, self._criteria(camera_id))
                camera.note(now, health, reading)
                news = camera.publish(now, health, reading.frame_age)
            if news:
                changed.add(camera_id)
        return changed

    def _reported(self, scrapes: Sequence[Scrape]) -> set[str]:
        named = {labels for scrape in scrapes for labels in scrape.worker}
        return {camera_of(labels) for labels in named} if scrapes else set(self._cameras)
