"""Who may publish: the table, and the same over real sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from gateway_clients import FakeViewer, FakeWorker, eventually
from gateway_tokens import Tokens

from camfleet_gateway.fencing import Verdict, judge, judge_by_hand
from camfleet_protocol.camera import Camera, CameraStatus, WorkerStatus
from camfleet_protocol.local import StateFolder, WorkerIdentity
from support.gateway_process import (
    GatewayProcess,
    put_camera,
    remove_camera,
    test_pattern,
    worker_token,
)


def status(attempt: int, uid: str) -> CameraStatus:
    return CameraStatus(worker=WorkerStatus(attempt=attempt, pod_uid=uid))


@pytest.mark.parametrize(
    ("attempt", "uid", "current", "verdict"),
    [
        (2, "a", status(2, "a"), Verdict.ACCEPT),
        (0, "a", status(0, "a"), Verdict.ACCEPT),
        (1, "a", status(2, "a"), Verdict.REFUSE),
        (1, "a", status(2, "b"), Verdict.REFUSE),
        (2, "b", status(2, "a"), Verdict.REFUSE),
        (3, "a", status(2, "a"), Verdict.HOLD),
        (3, "c", status(2, "a"), Verdict.HOLD),
        (2, "a", status(2, ""), Verdict.HOLD),
        (1, "a", CameraStatus(), Verdict.HOLD),
    ],
)
def test_only_the_current_worker_is_accepted(
    attempt: int, uid: str, current: CameraStatus, verdict: Verdict
) -> None:
    camera = test_pattern("door").model_copy(update={"status": current})
    identity = WorkerIdentity("default.door", attempt, uid)
    assert judge(identity, camera).verdict is verdict


def test_a_worker_of_an_unknown_camera_waits() -> None:
    assert judge(WorkerIdentity("default.door", 1, "a"), None).verdict is Verdict.HOLD


def test_a_static_token_publishes_only_what_nobody_manages() -> None:
    assert judge_by_hand(None).verdict is Verdict.ACCEPT
    assert judge_by_hand(test_pattern("door")).verdict is Verdict.REFUSE


def connecting(gateway: GatewayProcess, camera: Camera, token: str, **options: Any) -> Any:
    return FakeWorker.running(gateway.internal_url, camera.id, token, **options)


async def test_refused_for_good(gateway: GatewayProcess, state: StateFolder) -> None:
    camera = put_camera(state, test_pattern("gate"), status(3, "now"))
    other = put_camera(state, test_pattern("garden"))
    refused = {
        "an older attempt": worker_token(state, camera, attempt=2),
        "another pod of this attempt": worker_token(state, camera, uid="other"),
        "a token for another camera": worker_token(state, other),
        "a forged token": worker_token(state, camera)[:-4] + "AAAA",
        "no token of ours": "cft_nonsense",
        "rubbish": "é.ü",
    }
    for what, token in refused.items():
        if not token.isascii():
            continue
        async with connecting(gateway, camera, token) as worker:
            code, goodbyes = await worker.closing()
            assert code == 1008, what
            assert goodbyes[-1].retry_ms is None, what
    assert "worker connected" not in gateway.log


async def test_a_newer_attempt_is_held_until_the_status_names_it(
    gateway: GatewayProcess, state: StateFolder
) -> None:
    camera = put_camera(state, test_pattern("gate"), status(1, "a"))
    async with connecting(gateway, camera, worker_token(state, camera)) as old:
        await old.accepted()
        token = worker_token(state, camera, attempt=2, uid="b")
        async with connecting(gateway, camera, token, attempt=2) as new:
            put_camera(state, camera, status(2, "b"))
            await new.accepted()
            code, goodbyes = await old.closing()
            assert code == 1008 and goodbyes[-1].retry_ms is None


async def test_held_in_vain(start: Callable[..., GatewayProcess], state: StateFolder) -> None:
    gateway = start(hold_seconds=0.3)
    camera = put_camera(state, test_pattern("gate"), status(1, "a"))
    async with connecting(gateway, camera, worker_token(state, camera, attempt=2)) as worker:
        code, goodbyes = await worker.closing()
        assert code == 1013
        assert goodbyes[-1].retry_ms is not None


async def test_a_worker_is_sent_away_when_the_status_moves_on(
    gateway: GatewayProcess, state: StateFolder
) -> None:
    camera = put_camera(state, test_pattern("gate"), status(1, "a"))
    async with connecting(gateway, camera, worker_token(state, camera)) as worker:
        await worker.accepted()
        put_camera(state, camera, status(2, "b"))
        assert (await worker.closing())[0] == 1008


async def test_a_worker_is_sent_away_when_its_camera_is_deleted(
    gateway: GatewayProcess, state: StateFolder, door: Camera
) -> None:
    async with connecting(gateway, door, worker_token(state, door)) as worker:
        await worker.accepted()
        remove_camera(state, door.id)
        assert (await worker.closing())[0] == 1008


async def test_the_newest_socket_of_a_worker_wins(
    gateway: GatewayProcess, state: StateFolder, door: Camera
) -> None:
    token = worker_token(state, door)
    async with connecting(gateway, door, token) as first:
        await first.accepted()
        async with connecting(gateway, door, token) as second:
            await second.accepted()
            code, goodbyes = await first.closing()
            assert code == 1001 and goodbyes[-1].retry_ms is not None, "its own process lives on"
            async with FakeViewer.running(gateway.viewer_url, door.id) as viewer:
                await second.demand(lambda d: d.plain, "plain")
                seq = await second.send()
                await eventually(lambda: seq in viewer.seqs(), "a picture of the second socket")


async def test_silence_counts_as_lost(
    start: Callable[..., GatewayProcess], state: StateFolder, door: Camera
) -> None:
    gateway = start(stats_timeout_seconds=2.0)
    async with (
        FakeViewer.running(gateway.viewer_url) as viewer,
        connecting(gateway, door, worker_token(state, door), stats=False) as worker,
    ):
        await worker.accepted()
        code, goodbyes = await worker.closing()
        assert code == 1011 and goodbyes[-1].retry_ms is not None
        await viewer.state(door.id, "offline")


async def test_no_hello_no_session(gateway: GatewayProcess, state: StateFolder, door: Camera) -> None:
    async with connecting(gateway, door, worker_token(state, door), hello=False) as worker:
        assert (await worker.closing())[0] == 1008


async def test_workers_run_by_hand(
    start: Callable[..., GatewayProcess], state: StateFolder, tokens: Tokens, door: Camera
) -> None:
    gateway = start(tokens_file=str(tokens.path))
    token = tokens.by_role["worker"]
    async with connecting(gateway, door, token) as worker:
        assert (await worker.closing())[0] == 1008, "the directory has that camera"
    async with connecting(gateway, door, tokens.by_role["admin"]) as worker:
        assert (await worker.closing())[0] == 1008, "an admin's token is no worker's"
    camera = test_pattern("hall")
    viewer_token = tokens.by_role["viewer"]
    async with FakeViewer.running(gateway.viewer_url, token=viewer_token) as viewer:
        async with connecting(gateway, camera, token, pod="one") as first:
            await first.accepted()
            await viewer.state("default.hall", "live")
            async with connecting(gateway, camera, token, pod="two") as second:
                await second.accepted()
                assert (await first.closing())[0] == 1008, "two processes must not take turns"
                put_camera(state, camera)
                assert (await second.closing())[0] == 1008, "managed from now on"
        await viewer.state("default.hall", "offline")
        remove_camera(state, camera.id)
        await eventually(lambda: any("default.hall" in u.removed for u in viewer.updates()), "removed")
