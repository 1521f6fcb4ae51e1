"""Probes and metrics over HTTP; the metrics are those of the docs."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from camfleet_operator.cluster.metrics import OperatorMetrics
from camfleet_operator.cluster.probes import Check, Probes, ProbesError
from support.promtool import check_metrics

DOCS = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


@asynccontextmanager
async def serving(live: list[Check], ready: list[Check]) -> AsyncIterator[str]:
    server = Probes("127.0.0.1", 0, live=live, ready=ready, metrics=OperatorMetrics())
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_a_probe_says_what_is_wrong_and_only_its_own_checks_count() -> None:
    late: dict[str, str | None] = {"resync": None, "lease": None}
    live = [Check("queue", lambda: None), Check("resync", lambda: late["resync"])]
    async with serving(live, [Check("lease", lambda: late["lease"])]) as url:
        assert await get(f"{url}/livez") == (200, "[+]resync ok\n[+]queue ok\nlivez ok\n")
        assert await get(f"{url}/readyz") == (200, "[+]lease ok\nreadyz ok\n")
        late["resync"] = "the last one was 900 s ago"
        status, text = await get(f"{url}/livez")
        assert (status, text.splitlines()[0]) == (500, "[-]resync: the last one was 900 s ago")
        assert text.endswith("livez failed\n")
        assert (await get(f"{url}/readyz"))[0] == 200
        late["resync"] = None
        assert (await get(f"{url}/livez"))[0] == 200


async def test_a_check_that_breaks_is_a_problem_and_no_hanging_probe() -> None:
    def broken() -> str | None:
        raise KeyError("x")

    async with serving([Check("broken", broken)], []) as url:
        status, text = await get(f"{url}/livez")
    assert status == 500
    assert "KeyError" in text


async def test_a_loop_that_does_not_turn_does_not_answer() -> None:
    async with serving([], []) as url:
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            client.settimeout(0.2)
            with pytest.raises(TimeoutError):
                client.recv(1)  # this test blocks the loop
            client.settimeout(None)
            assert b"200 OK" in await asyncio.to_thread(client.recv, 1000)


async def test_a_taken_port_is_told_clearly() -> None:
    async with serving([], []) as url:
        port = int(url.rpartition(":")[2])
        other = Probes("127.0.0.1", port, metrics=OperatorMetrics())
        with pytest.raises(ProbesError, match=f"127.0.0.1:{port}: Address already in use"):
            await other.start()


async def test_metrics_have_exact_names_and_are_documented() -> None:
    metrics = OperatorMetrics()
    metrics.reconciled("unchanged", 0.003)
    metrics.resynced()
    metrics.wrote("create_pods")
    metrics.judged({"Healthy": 3, "Unknown": 0})
    metrics.moved("NodeLost")
    metrics.held("Paused")
    metrics.frozen("fleet", False)
    metrics.attributed({"Source": 1}, {"Dead": 0})
    metrics.ticked(0.01)
    metrics.blind("SignalsStale")
    assert check_metrics(metrics.page().decode()) == ""
    found = {
        (sample.name, *(key for key in sample.labels if key != "le"))
        for family in text_string_to_metric_families(metrics.page().decode())
        for sample in family.samples
        if sample.name.startswith("camfleet_") and not sample.name.endswith("_created")
    }
    prefix = "camfleet_operator_"
    assert found == {
        (f"{prefix}reconciles_total", "result"),
        *((f"{prefix}reconcile_seconds_{part}",) for part in ("bucket", "sum", "count")),
        (f"{prefix}queue_depth",),
        (f"{prefix}last_resync_timestamp_seconds",),
        (f"{prefix}api_writes_total", "kind"),
        (f"{prefix}verdicts", "verdict"),
        (f"{prefix}moves_total", "reason"),
        (f"{prefix}moves_held_total", "cause"),
        (f"{prefix}faults", "fault"),
        (f"{prefix}nodes", "state"),
        (f"{prefix}signals_blind", "reason"),
        (f"{prefix}last_signals_timestamp_seconds",),
        *((f"{prefix}tick_seconds_{part}",) for part in ("bucket", "sum", "count")),
        (f"{prefix}frozen", "scope"),
        (f"{prefix}rollout_waiting",),
        (f"{prefix}leader",),
    }
    described = set(re.findall(rf"^\| `({prefix}\w+)` \|", DOCS.read_text(), re.MULTILINE))
    assert described == {re.sub(r"_(bucket|sum|count)$", "", name) for name, *_ in found}
    assert b"process_resident_memory_bytes" in metrics.page()
    assert b"_created" not in metrics.page()
