"""Leader election on a real API server with shortened times, and its promises in simulated time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.testbed.control_plane import ControlPlane
from tests.testbed.processes import wait_until

from camfleet_operator.cluster.api import Api, Object
from camfleet_operator.cluster.api_errors import Conflict, Unavailable
from camfleet_operator.cluster.lease import LeaderElection
from support.simulated_loop import simulate
from support.stopwatch import Stopwatch

LEASE, DEADLINE, RETRY = 3.0, 2.0, 0.3
"""Seconds; a fifth of the real ones, and quicker tries."""
CALM: dict[str, Any] = {"lease": 60.0, "renew_deadline": 40.0}
"""Where nothing is to expire, however slow the machine is."""
AT_ONCE: dict[str, Any] = {**CALM, "retry": 30.0}
"""Where the first try has to do: the next one would come too late."""
WITHIN = 25.0


class Elector:
    """One replica of the operator, as far as the election goes."""

    def __init__(self, api: Api, namespace: str, identity: str, name: str = "op", **times: Any) -> None:
        self.changes: list[bool] = []
        self.changed = asyncio.Event()
        times = {"lease": LEASE, "renew_deadline": DEADLINE, "retry": RETRY, **times}
        self.election = LeaderElection(api, namespace, name, identity, on_change=self._note, **times)
        self.task = asyncio.create_task(self.election.run(), name=identity)

    def _note(self, leads: bool) -> None:
        self.changes.append(leads)
        self.changed.set()

    async def leads(self, expected: bool = True, within: float = WITHIN) -> float:
        """Wait until it leads or no longer does; returns how long that took."""
        start = time.monotonic()
        async with asyncio.timeout(within):
            while self.election.is_leader is not expected:
                self.changed.clear()
                await self.changed.wait()
        return time.monotonic() - start

    async def crash(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@asynccontextmanager
async def electors(api: Api, namespace: str, *names: str, **times: Any) -> AsyncIterator[list[Elector]]:
    found = [Elector(api, namespace, name, **times) for name in names]
    try:
        yield found
    finally:
        for elector in found:
            await elector.crash()


async def one_leader(found: list[Elector], within: float = WITHIN) -> Elector:
    waits = [asyncio.create_task(elector.leads(within=within)) for elector in found]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    leaders = [e for e in found if e.election.is_leader]
    assert len(leaders) == 1
    return leaders[0]


def lease(plane: ControlPlane, namespace: str) -> dict[str, Any]:
    found = plane.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/op")
    assert found is not None
    return dict(found["spec"])


@pytest.mark.cluster
async def test_one_of_many_leads_and_the_record_says_so(
    api: Api, plane: ControlPlane, namespace: str
) -> None:
    async with electors(api, namespace, *"abcde", **CALM) as found:
        leader = await one_leader(found)
        for _ in range(20):  # several renewals
            await asyncio.sleep(RETRY / 2)
            assert [e for e in found if e.election.is_leader] == [leader]
        await asyncio.to_thread(
            wait_until, lambda: (r := lease(plane, namespace))["acquireTime"] < r["renewTime"], "a renewal"
        )
        record = lease(plane, namespace)
        assert record["holderIdentity"] == leader.election.identity
        assert record["leaseDurationSeconds"] == 60
        assert record["leaseTransitions"] == 0
        assert len(record["renewTime"]) == len("2026-01-01T00:00:00.000000Z")


@pytest.mark.cluster
async def test_a_crash_is_followed_by_another_leader_in_time(
    api: Api, plane: ControlPlane, namespace: str
) -> None:
    async with electors(api, namespace, "a", "b") as found:
        leader = await one_leader(found)
        [standby] = [e for e in found if e is not leader]
        await asyncio.sleep(RETRY)
        before = lease(plane, namespace)["acquireTime"]
        await leader.crash()
        assert not leader.election.is_leader
        stopwatch = Stopwatch()
        await standby.leads()
        assert stopwatch.seconds <= LEASE + RETRY + 0.5, "15 s and 2 s in earnest"
        record = lease(plane, namespace)
        assert (record["holderIdentity"], record["leaseTransitions"]) == (standby.election.identity, 1)
        assert record["acquireTime"] > before


@pytest.mark.cluster
async def test_a_release_hands_over_at_once(api: Api, plane: ControlPlane, namespace: str) -> None:
    async with electors(api, namespace, "a", "b", **CALM) as found:
        leader = await one_leader(found)
        [standby] = [e for e in found if e is not leader]
        await leader.election.release()
        assert not leader.election.is_leader
        await standby.leads()  # long before it would have expired
        await asyncio.wait_for(leader.task, WITHIN)
        assert leader.changes == [True, False]
    assert lease(plane, namespace)["leaseTransitions"] == 1


@pytest.mark.cluster
async def test_nobody_to_hand_over_to(api: Api, plane: ControlPlane, namespace: str) -> None:
    async with electors(api, namespace, "a") as [only]:
        await only.leads()
        await only.election.release()
        assert lease(plane, namespace)["holderIdentity"] == ""
        await only.election.release()
    async with electors(api, namespace, "b", **AT_ONCE) as [other]:
        await other.leads()


@pytest.mark.cluster
async def test_a_process_that_restarts_under_its_name_goes_on(api: Api, namespace: str) -> None:
    async with electors(api, namespace, "a") as [first]:
        await first.leads()
        await first.crash()
    async with electors(api, namespace, "a", **AT_ONCE) as [again]:
        await again.leads()


@pytest.mark.cluster
async def test_a_standby_takes_no_lease_over_before_it_has_seen_it_expire(
    api: Api, plane: ControlPlane, namespace: str
) -> None:
    """The record's own times are another machine's, and may be hours off."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    spec = {"holderIdentity": "gone", "leaseDurationSeconds": 1, "renewTime": "2001-01-01T00:00:00.000000Z"}
    plane.post(path, {"metadata": {"name": "op"}, "spec": spec})
    async with electors(api, namespace, "a") as [only]:
        assert LEASE - 0.1 < await only.leads()


@pytest.mark.cluster
@pytest.mark.parametrize("spec", [{}, {"holderIdentity": ""}, {"leaseTransitions": 7}])
async def test_a_lease_that_nobody_holds_is_taken(
    api: Api, plane: ControlPlane, namespace: str, spec: dict[str, Any]
) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    plane.post(path, {"metadata": {"name": "op", "labels": {"keep": "me"}}, "spec": spec})
    async with electors(api, namespace, "a", **AT_ONCE) as [only]:
        await only.leads()
    assert (plane.get(f"{path}/op") or {})["metadata"]["labels"] == {"keep": "me"}


@pytest.mark.cluster
async def test_a_lease_that_is_deleted_or_stolen_by_hand(
    api: Api, plane: ControlPlane, namespace: str
) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/op"
    async with electors(api, namespace, "a") as [only]:
        await only.leads()
        plane.delete(path)
        await asyncio.to_thread(wait_until, lambda: plane.get(path), "the Lease to be there again")
        await only.leads()
        plane.patch(path, {"spec": {"holderIdentity": "thief"}})
        await only.leads(False)
        await only.leads()


@pytest.mark.cluster
async def test_many_conflicting_electors_never_lead_together(api: Api, namespace: str) -> None:
    """Each leader soon crashes; the intervals in which they believed to lead do not overlap."""
    times = {"lease": 1.0, "renew_deadline": 0.5, "retry": 0.05}
    found = [Elector(api, namespace, f"e{n}", **times) for n in range(6)]
    try:
        for _ in range(3):
            leader = await one_leader([e for e in found if not e.task.done()])
            for _ in range(10):
                await asyncio.sleep(0.02)
                assert sum(e.election.is_leader for e in found) <= 1
            await leader.crash()
    finally:
        for elector in found:
            await elector.crash()


@pytest.mark.cluster
async def test_the_api_server_restarts() -> None:
    with ControlPlane() as own:
        async with Api.connect(own.kubeconfig) as api, electors(api, "default", "a", "b") as found:
            leader = await one_leader(found)
            await asyncio.to_thread(own.processes["kube-apiserver"].kill)
            own.client.close()
            await leader.leads(False)
            assert not any(e.election.is_leader for e in found), "without a server nobody leads"
            await asyncio.to_thread(own.start_api_server)
            await one_leader(found)


_REPLICA = """
import asyncio, sys
from pathlib import Path
from camfleet_operator.cluster.api import Api
from camfleet_operator.cluster.lease import LeaderElection

async def main():
    async with Api.connect(Path(sys.argv[1])) as api:
        election = LeaderElection(api, sys.argv[2], "op", "stopped", lease=3, renew_deadline=2, retry=0.3)
        task = asyncio.create_task(election.run())
        while True:
            print(election.is_leader, flush=True)
            await asyncio.sleep(0.02)

asyncio.run(main())
"""


@pytest.mark.cluster
async def test_a_stopped_process_wakes_up_knowing_that_it_leads_no_more(
    api: Api, plane: ControlPlane, namespace: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _REPLICA, str(plane.kubeconfig), namespace, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            while (await process.stdout.readline()).strip() != b"True":
                pass
        async with electors(api, namespace, "standby") as [standby]:
            await asyncio.sleep(RETRY)
            os.kill(process.pid, signal.SIGSTOP)
            await standby.leads()
            while True:  # what it had said before it was stopped
                try:
                    await asyncio.wait_for(process.stdout.readline(), 0.1)
                except TimeoutError:
                    break
            os.kill(process.pid, signal.SIGCONT)
            said = {(await process.stdout.readline()).strip() for _ in range(50)}
            assert said == {b"False"}
            await standby.leads()
    finally:
        process.kill()
        await process.wait()


# ── The arithmetic, in simulated time ───────────────────────────────────────────────────────────────


class MemoryLease:
    """As much of the API as the election uses, with switches for its failures."""

    def __init__(self) -> None:
        self.document: Object | None = None
        self.versions = 0
        self.down = False
        self.lose_answers = False
        self.writes: list[float] = []

    async def get(self, path: str) -> Object | None:
        await self._answer()
        return json.loads(json.dumps(self.document))

    async def create(self, path: str, body: Object) -> Object:
        return await self.update(path, body)

    async def update(self, path: str, body: Object) -> Object:
        if not self.down:
            current = self.document and self.document["metadata"]["resourceVersion"]
            if current and body["metadata"].get("resourceVersion") != current:
                raise Conflict(409, "Conflict", "changed")
            self.versions += 1
            self.document = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.versions)}}
            self.writes.append(asyncio.get_running_loop().time())
        await self._answer()
        if self.lose_answers:
            raise Unavailable(0, "Timeout", "lost")
        return json.loads(json.dumps(self.document))

    async def _answer(self) -> None:
        await asyncio.sleep(0.01)
        if self.down:
            raise Unavailable(0, "Unreachable", "down")


def simulated(server: MemoryLease, identity: str, note: Callable[[bool], None]) -> LeaderElection:
    clock = asyncio.get_running_loop().time
    return LeaderElection(server, "n", "op", identity, clock=clock, on_change=note)  # type: ignore[arg-type]


def test_leading_ends_ten_seconds_after_the_last_renewal_and_before_anyone_takes_over() -> None:
    async def main() -> None:
        server, told, loop = MemoryLease(), list[tuple[float, bool]](), asyncio.get_running_loop()
        election = simulated(server, "a", lambda leads: told.append((loop.time(), leads)))
        task = asyncio.create_task(election.run())
        await asyncio.sleep(100)
        assert election.is_leader
        assert 50 <= len(server.writes) <= 65, "one renewal each two seconds"
        server.down = True
        last = server.writes[-1]
        await asyncio.sleep(60)
        assert not election.is_leader
        assert election.problem is not None
        assert [leads for _, leads in told] == [True, False]
        assert told[1][0] - last <= 10.1
        server.down = False
        await asyncio.sleep(5)
        assert election.is_leader and election.problem is None
        task.cancel()

    simulate(main())


def test_answers_that_are_lost_do_not_make_a_leader() -> None:
    async def main() -> None:
        server = MemoryLease()
        server.lose_answers = True
        election = simulated(server, "a", lambda leads: None)
        task = asyncio.create_task(election.run())
        await asyncio.sleep(30)
        assert not election.is_leader
        server.lose_answers = False
        await asyncio.sleep(3)
        assert election.is_leader
        task.cancel()

    simulate(main())


@pytest.mark.parametrize("seed", range(20))
def test_a_standby_leads_within_seventeen_seconds_of_a_crash_and_never_too_early(seed: int) -> None:
    async def main() -> float:
        server, loop = MemoryLease(), asyncio.get_running_loop()
        first = simulated(server, "a", lambda leads: None)
        one = asyncio.create_task(first.run())
        await asyncio.sleep(20 + seed * 0.17)
        leads = asyncio.Event()
        second = simulated(server, "b", lambda _: leads.set())
        two = asyncio.create_task(second.run())
        await asyncio.sleep(30)
        one.cancel()
        crashed = loop.time()
        await leads.wait()
        assert second.is_leader
        two.cancel()
        return loop.time() - crashed

    assert 12.9 < simulate(main()) <= 17.1


def test_times_that_cannot_work_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="retry < renew_deadline < lease"):
        LeaderElection(Api(None), "n", uuid.uuid4().hex, "a", lease=5, renew_deadline=10)
