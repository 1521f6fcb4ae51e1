"""One camera against a real API server, with clocks and orders in the test's hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.testbed.control_plane import ControlPlane

from camfleet_operator.cluster.api import Api
from camfleet_operator.cluster.balance.placement import Placement
from camfleet_operator.cluster.health.orders import Order, Reason
from camfleet_operator.cluster.health.verdicts import Health
from camfleet_operator.cluster.reconciler import Reconciler
from camfleet_operator.cluster.rollout import Rollout
from camfleet_operator.cluster.settings import OperatorSettings
from camfleet_operator.cluster.store import Kind, Store
from camfleet_operator.cluster.writes import WriteBudget

pytestmark = pytest.mark.cluster


@dataclass
class Told:
    """What the reconciler asks of health and moves, and tells them."""

    ordered: Order | None = None
    expected: list[str] = field(default_factory=list)
    made: list[Order] = field(default_factory=list)

    def health(self, camera_id: str) -> Health | None:
        return None

    def expect(self, camera_id: str) -> None:
        self.expected.append(camera_id)

    def order(self, camera_id: str) -> Order | None:
        return self.ordered

    def carried_out(self, camera_id: str, order: Order) -> None:
        self.made.append(order)

    def held(self, camera_id: str) -> str:
        return ""

    def silent(self, node: str) -> bool:
        return False

    def placement(self, camera_id: str, spec: Mapping[str, Any]) -> Placement:
        return Placement()

    def record(self, camera: dict[str, Any], kind: str, reason: str, note: str) -> None:
        pass


class Door:
    """A camera, and a reconciler that sees nothing else."""

    def __init__(self, plane: ControlPlane, namespace: str, api: Api) -> None:
        self.plane = plane
        self.key = f"{namespace}.door"
        self.pods_path = f"/api/v1/namespaces/{namespace}/pods"
        self.cameras_path = f"/apis/camfleet.io/v1alpha1/namespaces/{namespace}/cameras"
        document = {
            "apiVersion": "camfleet.io/v1alpha1",
            "kind": "Camera",
            "metadata": {"name": "door"},
            "spec": {"source": {"testPattern": {}}, "gpu": {"mode": "Disabled"}},
        }
        self.told = Told()
        self.clock_step = 0.0
        self.budget = WriteBudget(0.0, 10)
        self.store = Store(time.monotonic)
        self.store.apply(Kind.CAMERA, plane.post(self.cameras_path, document))
        self.reconciler = Reconciler(
            api=api,
            store=self.store,
            budget=self.budget,
            leading=lambda: True,
            health=self.told,
            moves=self.told,
            events=self.told,
            rollout=Rollout(lambda key: None),
            again=lambda key, seconds: None,
            settings=OperatorSettings(worker_image="worker:1"),
            wall=lambda: time.time() + self.clock_step,
        )

    async def reconcile(self) -> str:
        return await self.reconciler.reconcile(self.key)

    def pods(self) -> list[dict[str, Any]]:
        return self.plane.items(self.pods_path)

    async def settle(self) -> str:
        """The UID of its pod, which its status names."""
        assert await self.reconcile() == "created"
        (pod,) = self.pods()
        self.clock_step = 60.0  # after a while the status does not wait for the scheduler any more
        assert await self.reconcile() == "updated"
        self.clock_step = 0.0
        return str(pod["metadata"]["uid"])

    def lose_pod(self) -> None:
        (pod,) = self.pods()
        self.plane.delete(f"{self.pods_path}/{pod['metadata']['name']}")
        self.store.remove(Kind.POD, pod)

    def last_move(self) -> dict[str, Any] | None:
        camera = self.plane.get(f"{self.cameras_path}/door")
        assert camera is not None
        found: dict[str, Any] | None = camera["status"].get("lastReassignment")
        return found


@pytest.fixture
def door(plane: ControlPlane, namespace: str, api: Api) -> Door:
    return Door(plane, namespace, api)


async def test_what_was_heard_of_the_last_worker_is_forgotten_when_the_next_pod_is_made(door: Door) -> None:
    await door.settle()
    assert door.told.expected == [door.key]
    door.lose_pod()
    assert await door.reconcile() == "created"
    assert door.told.expected == [door.key, door.key]


async def test_a_clock_that_is_set_back_keeps_no_worker_away(door: Door) -> None:
    first = await door.settle()
    door.lose_pod()
    door.clock_step = -3600.0
    assert await door.reconcile() == "created"
    assert [pod["metadata"]["uid"] for pod in door.pods()] != [first]


async def test_a_move_that_is_given_up_while_it_waits_for_its_turn_is_not_made(door: Door) -> None:
    uid = await door.settle()
    order = Order(door.key, uid, Reason.WORKER_FAULT, "it hangs", "n1", 1, time.time())
    door.told.ordered = order
    door.budget.pause(0.5)  # as the API server asks for
    moving = asyncio.create_task(door.reconcile())
    await asyncio.sleep(0)
    assert door.budget.waiting == 1
    door.told.ordered = None  # it took too long: what the order rested on is old
    assert await moving == "unchanged"
    assert [pod["metadata"]["uid"] for pod in door.pods()] == [uid]
    assert door.last_move() is None and door.told.made == []
    door.told.ordered = order
    assert await door.reconcile() == "moved"
    last = door.last_move()
    assert last is not None and last["reason"] == "WorkerFault"
    assert door.told.made == [order]
