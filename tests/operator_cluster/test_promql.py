"""From Prometheus' answers to scrapes, as tables; and the file with queries of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from camfleet_operator.cluster.health import promql
from camfleet_operator.cluster.health.promql import Assembled, Assembler, Moment, Nothing, ResultError
from camfleet_operator.cluster.health.queries import QueriesError, read_queries
from camfleet_operator.cluster.health.scrape import FAMILIES, labels_of
from support.require import ROOT

Sample = tuple[dict[str, str], str]
Answers = dict[str, list[Sample]]
DOOR = {"namespace": "n", "camera": "door"}


class Server:
    """A Prometheus that scrapes gateways every ten seconds, and an assembler that asks it."""

    def __init__(self) -> None:
        self.assembler = Assembler(10.0)
        self.now = 100.0
        self.time = 5000.0
        self.stamps: dict[str, float] = {}
        self.answers: Answers = {name: [] for name in promql.FLEET}

    def scraped(self, *gateways: str, ago: float = 1.0) -> None:
        """These were scraped so long ago, and are well."""
        for gateway in gateways:
            self.stamps[gateway] = self.time - ago
        self.answers[promql.GATEWAY_TIME] = [({"instance": g}, f"{s}") for g, s in self.stamps.items()]
        self.answers[promql.GATEWAY_UP] = [({"instance": g}, "1") for g in self.stamps]

    def says(self, query: str, gateway: str, value: str, **labels: str) -> None:
        self.answers[query].append(({**DOOR, "instance": gateway, **labels}, value))

    def look(self, seconds: float = 10.0) -> Moment | Nothing:
        self.now += seconds
        freshness = [({"instance": g}, f"{s}") for g, s in self.stamps.items()]
        found = self.assembler.look(self.now, self.time if freshness else None, freshness)
        self.time += seconds
        return found

    def sample(self, seconds: float = 10.0) -> Assembled:
        moment = self.look(seconds)
        assert isinstance(moment, Moment), moment
        return self.assembler.assemble(self.now, moment, self.answers)


def nothing(found: Moment | Nothing) -> str:
    assert isinstance(found, Nothing)
    return found.reason


def test_each_gateway_becomes_a_scrape() -> None:
    server = Server()
    server.scraped("a:1", "b:1")
    for query in (promql.WORKER_CONNECTED, promql.SOURCE_CONNECTED):
        server.says(query, "a:1", "1")
    server.says(promql.WORKER_CONNECTED, "b:1", "0")
    server.says(promql.LAST_FRAME, "a:1", "4998.5")
    server.says(promql.LAST_INFERENCE, "a:1", "4998.25")
    server.says(promql.PICTURE_FROZEN, "a:1", "0")
    server.says(promql.SOURCE_ERRORS, "a:1", "7", reason="source_lost")
    server.says(promql.SOURCE_ERRORS, "a:1", "NaN", reason="source_refused")
    server.says(promql.WORKER_CONNECTED, "gone:1", "1")
    found = server.sample()
    assert (found.complete, found.problems) == (True, {})
    a, b = sorted(found.scrapes, key=lambda scrape: scrape.instance)
    door = labels_of("n.door")
    assert (a.instance, a.time, a.worker, a.source) == ("a:1", 4999.0, {door: b"1"}, {door: b"1"})
    assert (a.frame, a.inference, a.frozen) == ({door: b"4998.5"}, {door: b"4998.25"}, {door: b"0"})
    assert a.errors == {door: {"source_lost": 7.0}}
    assert (b.worker, b.source) == ({door: b"0"}, {})


def test_a_label_that_prometheus_put_aside_is_ours() -> None:
    server = Server()
    server.scraped("a:1")
    server.says(promql.WORKER_CONNECTED, "a:1", "1", namespace="monitoring", exported_namespace="n")
    server.says(promql.WORKER_CONNECTED, "a:1", "1", camera='x"y')
    [scrape] = server.sample().scrapes
    assert scrape.worker == {labels_of("n.door"): b"1"}


def test_two_values_for_one_camera_contradict_each_other_and_one_twice_does_not() -> None:
    server = Server()
    server.scraped("a:1")
    for aside in ({}, {"namespace": "x", "exported_namespace": "n"}):
        for camera, values in (("door", "10"), ("gate", "11")):
            for value in values:
                server.says(promql.WORKER_CONNECTED, "a:1", value, camera=f"{camera}-{len(aside)}", **aside)
    [scrape] = server.sample().scrapes
    assert scrape.contradictory == {labels_of("n.door-0"), labels_of("n.door-2")}


def test_of_two_jobs_that_scrape_a_gateway_the_larger_value_counts() -> None:
    """As `max by` does with replicas; here one job has put our label aside, and the other has not."""
    server = Server()
    server.scraped("a:1")
    for camera, values in (("door", ("1", "0")), ("gate", ("9.5", "10")), ("yard", ("1", "NaN"))):
        for value, aside in zip(values, ({}, {"namespace": "x", "exported_namespace": "n"}), strict=True):
            server.says(promql.LAST_FRAME, "a:1", value, camera=camera, **aside)
            server.says(promql.SOURCE_ERRORS, "a:1", value, camera=camera, reason="source_lost", **aside)
    [scrape] = server.sample().scrapes
    frames = [scrape.frame[labels_of(f"n.{camera}")] for camera in ("door", "gate", "yard")]
    assert frames == [b"1", b"10", b"NaN"]
    assert scrape.errors[labels_of("n.gate")] == {"source_lost": 10.0}
    assert not scrape.contradictory


def test_nothing_is_given_twice() -> None:
    server = Server()
    server.scraped("a:1", "b:1")
    server.sample()
    assert nothing(server.look(2.5)) == ""
    server.scraped("a:1")
    assert nothing(server.look(2.5)) == "", "the other one is waited for"
    server.scraped("b:1")
    found = server.sample(2.5)
    assert (len(found.scrapes), found.complete) == (2, True)


def test_a_gateway_that_is_late_is_left_out_and_missed() -> None:
    server = Server()
    server.scraped("a:1", "b:1")
    server.sample()
    for _ in range(5):
        server.scraped("a:1")
        assert nothing(server.look(2.5)) == ""
    server.scraped("a:1")
    found = server.sample(2.5)
    assert [scrape.instance for scrape in found.scrapes] == ["a:1"]
    assert not found.complete
    assert list(found.problems) == ["b:1"]
    for _ in range(3):
        server.scraped("a:1")
        assert not server.sample(10).complete, "stale by now, and still missed"
    server.scraped("a:1", "b:1")
    assert server.sample(10).complete


def test_stale_and_absent_gateways() -> None:
    server = Server()
    assert nothing(server.look()) == "NoGateway"
    server.scraped("a:1", ago=25.1)
    found = server.look()
    assert isinstance(found, Nothing)
    assert found.reason == "SignalsStale"
    assert "for 25 s" in found.message
    server.scraped("a:1", ago=25.0)
    assert isinstance(server.look(), Moment)


def test_moments_know_their_age() -> None:
    server = Server()
    server.scraped("a:1", ago=3.0)
    server.scraped("b:1", ago=8.0)
    server.scraped("c:1", ago=100.0)
    moment = server.look()
    assert isinstance(moment, Moment)
    assert (moment.time, moment.age, moment.fresh) == (5000.0, 8.0, {"a:1", "b:1"})


def down(server: Server) -> None:
    del server.stamps["b:1"]
    server.scraped("a:1")
    server.answers[promql.GATEWAY_UP].append(({"instance": "b:1"}, "0"))


def vanished(server: Server) -> None:
    del server.stamps["b:1"]
    server.scraped("a:1")


def still(server: Server) -> None:
    before = server.answers[promql.GATEWAY_TIME][1][1]
    server.scraped("a:1", "b:1")
    server.answers[promql.GATEWAY_TIME][1] = ({"instance": "b:1"}, before)


def without_clock(server: Server) -> None:
    server.scraped("a:1", "b:1")
    del server.answers[promql.GATEWAY_TIME][1]


def no_number(server: Server) -> None:
    server.scraped("a:1", "b:1")
    server.answers[promql.GATEWAY_TIME][1] = ({"instance": "b:1"}, "NaN")


def two_clocks(server: Server) -> None:
    server.scraped("a:1", "b:1")
    server.answers[promql.GATEWAY_TIME].append(({"instance": "b:1"}, "7"))


def up_only(server: Server) -> None:
    down(server)
    server.answers[promql.GATEWAY_UP][-1] = ({"instance": "b:1"}, "1")


@pytest.mark.parametrize("trouble", [down, vanished, still, without_clock, no_number, two_clocks, up_only])
def test_a_gateway_in_trouble_is_left_out_and_missed(trouble: Any) -> None:
    server = Server()
    server.scraped("a:1", "b:1")
    assert server.sample().complete
    trouble(server)
    found = server.sample()
    assert [scrape.instance for scrape in found.scrapes] == ["a:1"]
    assert not found.complete
    assert list(found.problems) == ["b:1"]
    server.scraped("a:1", "b:1")
    assert server.sample().complete


def test_a_gateway_that_has_gone_is_forgotten_after_half_a_minute() -> None:
    server = Server()
    server.scraped("a:1", "b:1")
    server.sample()
    vanished(server)
    complete = []
    for _ in range(4):
        server.scraped("a:1")
        complete.append(server.sample().complete)
    assert complete == [False, False, True, True]


def test_without_up_nothing_is_complete() -> None:
    server = Server()
    server.scraped("a:1")
    server.answers[promql.GATEWAY_UP] = []
    assert not server.sample().complete


@pytest.mark.parametrize(
    ("query", "labels", "said"),
    [
        (promql.WORKER_CONNECTED, {"namespace": "n", "camera": "x"}, "no label instance"),
        (promql.WORKER_CONNECTED, {"instance": "a:1", "camera": "x"}, "no label namespace"),
        (promql.LAST_FRAME, {"instance": "a:1", "namespace": "x"}, "last_frame gives has no label camera"),
        (promql.SOURCE_ERRORS, {"instance": "a:1", **DOOR}, "no label reason"),
        (promql.GATEWAY_UP, {}, "gateway_up gives has no label instance"),
        (promql.GATEWAY_TIME, {}, "no label instance"),
    ],
)
def test_results_without_their_labels(query: str, labels: Mapping[str, str], said: str) -> None:
    server = Server()
    server.scraped("a:1")
    server.answers[query].append((dict(labels), "1"))
    with pytest.raises(ResultError, match=said):
        server.sample()


def test_freshness_without_its_label_or_twice() -> None:
    with pytest.raises(ResultError, match="no label instance"):
        Assembler(10).look(0, 1, [({}, "1")])
    with pytest.raises(ResultError, match="two results"):
        Assembler(10).look(0, 1, [({"instance": "a"}, "1"), ({"instance": "a"}, "1")])


# ── Queries ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_default_queries_name_what_gateways_have() -> None:
    text = " ".join(promql.queries().values())
    for family in FAMILIES:
        assert family in text
    assert "{" not in text


def test_the_docs_name_the_default_queries() -> None:
    text = (ROOT / "docs" / "prometheus.md").read_text()
    block = text.partition("<!-- queries -->\n```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(block) == promql.queries()


def test_a_selector_and_a_query_of_ones_own() -> None:
    mine = {"selector": 'cluster="east"', "last_frame": "my:last_frame"}
    found = promql.queries(mine)
    assert found["last_frame"] == "my:last_frame"
    assert found["gateway_time"] == 'max by (instance) (camfleet_gateway_time_seconds{cluster="east"})'
    assert found["gateway_up"].count('{cluster="east"}') == 2
    assert "%" not in "".join(found.values())


def test_the_file_with_queries(tmp_path: Path) -> None:
    path = tmp_path / "queries.yaml"
    assert read_queries(None, promql.NAMES) == {}
    path.write_text("")
    assert read_queries(path, promql.NAMES) == {}
    path.write_text("last_frame: |\n  max by (x) (y)\nselector: a='b'\n")
    assert read_queries(path, promql.NAMES) == {"last_frame": "max by (x) (y)", "selector": "a='b'"}
    for text, said in (
        ("[1]", "not a mapping"),
        ("a: [", "not YAML"),
        (
            "frames: up\nlast_frame: 1\n1: x",
            "frames: there is no such query.*last_frame: is not a query.*1: ",
        ),
        (f"last_frame: {'x' * 9000}", "longer than"),
    ):
        path.write_text(text)
        with pytest.raises(QueriesError, match=said):
            read_queries(path, promql.NAMES)
    with pytest.raises(QueriesError, match="No such file"):
        read_queries(tmp_path / "absent", promql.NAMES)
