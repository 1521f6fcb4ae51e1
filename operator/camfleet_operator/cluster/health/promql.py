"""What Prometheus is asked about the gateways, and how its answers become one `Scrape` per gateway. Pure.

One query per signal for the whole fleet, all evaluated at one moment. The result is what the direct source
reads off the gateways' pages, so one evaluator judges both. Each gateway is an `instance`; a label of
Prometheus' replicas (a pair of servers, Thanos) is aggregated away.

The rules that keep half a picture from being taken for a whole one:

- A gateway's figures are used once per scrape, and not when they are older than 2.5 scrape intervals.
- A gateway that cannot be scraped, whose clock stands still, that was not scraped again when the others were,
  or that has vanished a moment ago, is not used, and the sample is not complete: nobody is missed then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from camfleet_operator.cluster.health.scrape import Labels, Scrape, Values, number

FRESHNESS: Final = "freshness"
GATEWAY_TIME: Final = "gateway_time"
GATEWAY_UP: Final = "gateway_up"
WORKER_CONNECTED: Final = "worker_connected"
SOURCE_CONNECTED: Final = "source_connected"
LAST_FRAME: Final = "last_frame"
LAST_INFERENCE: Final = "last_inference"
SOURCE_ERRORS: Final = "source_errors"
PICTURE_FROZEN: Final = "picture_frozen"
SELECTOR: Final = "selector"
"""Not a query: label matchers that every default query gets, such as `cluster="east"`."""

_ASIDE = "exported_namespace"
_CAMERA = "max by (namespace, exported_namespace, camera, instance"
_TEMPLATES: Mapping[str, str] = {
    FRESHNESS: "max by (instance) (timestamp(camfleet_gateway_time_seconds{%s}))",
    GATEWAY_TIME: "max by (instance) (camfleet_gateway_time_seconds{%s})",
    GATEWAY_UP: (
        "max by (instance) (up{%s} and on (instance, job) "
        "present_over_time(camfleet_gateway_time_seconds{%s}[1h]))"
    ),
    WORKER_CONNECTED: f"{_CAMERA}) (camfleet_camera_worker_connected{{%s}})",
    SOURCE_CONNECTED: f"{_CAMERA}) (camfleet_camera_source_connected{{%s}})",
    LAST_FRAME: f"{_CAMERA}) (camfleet_camera_last_frame_timestamp_seconds{{%s}})",
    LAST_INFERENCE: f"{_CAMERA}) (camfleet_camera_last_inference_timestamp_seconds{{%s}})",
    SOURCE_ERRORS: f"{_CAMERA}, reason) (camfleet_camera_source_errors_total{{%s}})",
    PICTURE_FROZEN: f"{_CAMERA}) (camfleet_camera_picture_frozen{{%s}}) != 0",
}
NAMES = (*_TEMPLATES, SELECTOR)
"""What can be set in the file with queries."""
FLEET = tuple(name for name in _TEMPLATES if name != FRESHNESS)
"""What is asked at the moment that `FRESHNESS` has named."""

STALE_INTERVALS = 2.5
LATE_INTERVALS = 1.5
"""After so many scrape intervals a gateway that was not scraped again is not waited for any more."""
GONE_SECONDS, GONE_INTERVALS = 30.0, 3.0
"""A gateway that has vanished is missed for so long: its workers need that time to turn up elsewhere."""

Samples = Sequence[tuple[Mapping[str, str], str]]


class ResultError(ValueError):
    """What a query gives cannot be used; the text names the query and what is wrong."""


def queries(overrides: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """All queries by name: those given, and the defaults with the given selector."""
    selector = overrides.get(SELECTOR, "")
    return {
        name: overrides.get(name) or template.replace("{%s}", f"{{{selector}}}" if selector else "")
        for name, template in _TEMPLATES.items()
    }


@dataclass(frozen=True, slots=True)
class Moment:
    """Something new has been scraped.

    Attributes:
        time: When to evaluate the other queries, by Prometheus' clock, Unix seconds.
        stamps: When each gateway was scraped last, by the same clock.
        fresh: Gateways that were scraped since the last sample, and lately.
    """

    time: float
    stamps: Mapping[str, float]
    fresh: frozenset[str]

    @property
    def age(self) -> float:
        """Seconds since the oldest of the scrapes that are used."""
        return max(self.time - self.stamps[instance] for instance in self.fresh)


@dataclass(frozen=True, slots=True)
class Nothing:
    """There are no figures to judge by.

    Attributes:
        reason: CamelCase; empty if there merely is nothing newer than what was given last.
        message: A sentence for people.
    """

    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Assembled:
    """What the gateways say; as in `signals.Sample`."""

    scrapes: tuple[Scrape, ...]
    complete: bool
    problems: Mapping[str, str]


class Assembler:
    """Remembers what was given before, from one sample to the next.

    Args:
        scrape: The interval at which Prometheus scrapes the gateways, seconds.
    """

    def __init__(self, scrape: float) -> None:
        self._scrape = scrape
        self._given: dict[str, float] = {}
        """Of which scrape of a gateway something was given last."""
        self._given_at = float("-inf")
        self._clocks: dict[str, float] = {}
        self._seen: dict[str, float] = {}
        """When each gateway was last known to Prometheus; monotonic seconds."""

    def look(self, now: float, time: float | None, freshness: Samples) -> Moment | Nothing:
        """Decide whether it is time to ask for everything.

        Args:
            now: Monotonic seconds.
            time: When `FRESHNESS` was evaluated, by Prometheus' clock.
            freshness: What it gave.

        Raises:
            ResultError: The result cannot be used.
        """
        stamps = stamps_of(freshness)
        if time is None or not stamps:
            return Nothing("NoGateway", "Prometheus has no camfleet_gateway_time_seconds of any gateway")
        limit = STALE_INTERVALS * self._scrape
        lately = {instance for instance, stamp in stamps.items() if time - stamp <= limit}
        if not lately:
            return Nothing(
                "SignalsStale",
                f"Prometheus has scraped no gateway for {limit:g} s, and should every {self._scrape:g} s",
            )
        fresh = {name for name in lately if stamps[name] > self._given.get(name, float("-inf"))}
        if not fresh:
            if now - self._given_at > limit > 0 and self._given:
                # A cache that repeats itself, or a clock that was set back: new to nobody, whatever it says.
                return Nothing("SignalsStale", f"Prometheus has told nothing new for more than {limit:g} s")
            return Nothing()
        if fresh != lately and now - self._given_at < LATE_INTERVALS * self._scrape:
            return Nothing()
        return Moment(time, stamps, frozenset(fresh))

    def assemble(self, now: float, moment: Moment, answers: Mapping[str, Samples]) -> Assembled:
        """Make one scrape of each gateway.

        Args:
            now: Monotonic seconds.
            moment: When the queries were evaluated.
            answers: What each query of `FLEET` gave.

        Raises:
            ResultError: A result cannot be used.
        """
        problems: dict[str, str] = {}
        scrapes = {name: Scrape(0.0, name) for name in moment.fresh}
        self._clock(scrapes, answers[GATEWAY_TIME], problems)
        for name in moment.stamps.keys() - moment.fresh:
            problems[name] = f"Prometheus scraped it last {moment.time - moment.stamps[name]:.0f} s ago"
        up = self._up(answers[GATEWAY_UP], scrapes, problems)
        self._miss(now, {*moment.stamps, *up}, problems)
        for name, values in (
            (WORKER_CONNECTED, "worker"),
            (SOURCE_CONNECTED, "source"),
            (LAST_FRAME, "frame"),
            (LAST_INFERENCE, "inference"),
            (PICTURE_FROZEN, "frozen"),
        ):
            _fill(name, answers[name], {key: getattr(s, values) for key, s in scrapes.items()}, scrapes)
        _fill_errors(answers[SOURCE_ERRORS], scrapes)
        self._given.update((name, moment.stamps[name]) for name in moment.fresh)
        self._given_at = now
        return Assembled(tuple(scrapes.values()), bool(up) and not problems, problems)

    def _clock(self, scrapes: dict[str, Scrape], answer: Samples, problems: dict[str, str]) -> None:
        clocks: dict[str, set[float | None]] = {}
        for labels, value in answer:
            clocks.setdefault(_label(GATEWAY_TIME, labels, "instance"), set()).add(number(value.encode()))
        for name in list(scrapes):
            found = clocks.get(name, set())
            time = found.pop() if len(found) == 1 else None
            if time is None:
                problems[name] = "it has no clock, or several"
            elif self._clocks.get(name) == time:
                problems[name] = "its clock stands still: the page is an old one"
            else:
                self._clocks[name] = scrapes[name].time = time
                continue
            del scrapes[name]

    def _up(self, answer: Samples, scrapes: dict[str, Scrape], problems: dict[str, str]) -> set[str]:
        names: set[str] = set()
        for labels, value in answer:
            name = _label(GATEWAY_UP, labels, "instance")
            names.add(name)
            if number(value.encode()) != 1.0:
                problems[name] = "Prometheus cannot scrape it"
                scrapes.pop(name, None)
            elif name not in scrapes:
                problems.setdefault(name, "Prometheus has scraped it without its clock")
        return names

    def _miss(self, now: float, known: set[str], problems: dict[str, str]) -> None:
        """Remember the gateways that there are, and miss those that have just vanished."""
        self._seen.update((name, now) for name in known)
        limit = max(GONE_SECONDS, GONE_INTERVALS * self._scrape)
        for name, seen in list(self._seen.items()):
            if now - seen >= limit:
                del self._seen[name]
                self._given.pop(name, None)
                self._clocks.pop(name, None)
            elif name not in known:
                problems[name] = "Prometheus does not know it any more"


def stamps_of(freshness: Samples) -> dict[str, float]:
    """When each gateway was scraped last, by Prometheus' clock; unusable ones are left out.

    Raises:
        ResultError: A sample does not say which gateway, or two speak of one.
    """
    stamps: dict[str, float] = {}
    for labels, value in freshness:
        name = _label(FRESHNESS, labels, "instance")
        if name in stamps:
            raise ResultError(f"the query {FRESHNESS} gives two results for one instance")
        if (stamp := number(value.encode())) is not None:
            stamps[name] = stamp
    return stamps


def _fill(query: str, answer: Samples, values: Mapping[str, Values], scrapes: Mapping[str, Scrape]) -> None:
    aside: dict[str, Values] = {name: {} for name in values}
    try:
        for labels, value in answer:
            into = (aside if _ASIDE in labels else values).get(labels["instance"])
            if into is None or not (camera := _camera(labels)):
                continue
            text = value.encode()
            if into.setdefault(camera, text) != text:
                scrapes[labels["instance"]].contradictory.add(camera)
    except KeyError as missing:
        raise ResultError(_without(query, missing)) from None
    for name, found in aside.items():
        # A gateway may be scraped by two jobs, of which one puts our label aside and one does not: the later
        # scrape has the larger value, as with replicas.
        for camera, text in found.items():
            values[name][camera] = max(text, values[name].get(camera, text), key=_order)


def _fill_errors(answer: Samples, scrapes: Mapping[str, Scrape]) -> None:
    try:
        for labels, value in answer:
            scrape, camera, reason = scrapes.get(labels["instance"]), _camera(labels), labels["reason"]
            if scrape is not None and camera and (count := number(value.encode())) is not None:
                errors = scrape.errors.setdefault(camera, {})
                errors[reason] = max(count, errors.get(reason, count))
    except KeyError as missing:
        raise ResultError(_without(SOURCE_ERRORS, missing)) from None


def _camera(labels: Mapping[str, str]) -> Labels:
    """The camera, as `scrape.labels_of` writes it; empty if no camera can have such a name."""
    # Prometheus puts our label aside where its own of that name is made to win.
    namespace, camera = labels.get(_ASIDE) or labels["namespace"], labels["camera"]
    return b"" if '"' in camera or '"' in namespace else f'namespace="{namespace}",camera="{camera}"'.encode()


def _order(text: bytes) -> float:
    """The value, and more than any if it is no number: what is unclear stays so."""
    value = number(text)
    return math.inf if value is None else value


def _label(query: str, labels: Mapping[str, str], name: str) -> str:
    try:
        return labels[name]
    except KeyError as missing:
        raise ResultError(_without(query, missing)) from None


def _without(query: str, missing: KeyError) -> str:
    return f"what the query {query} gives has no label {missing.args[0]}"
