"""What is written for one camera, its status and its pods: each in its turn, and only by who leads.

Deletions name the UID they mean, and a status the UID of its camera: what was made again meanwhile under the
same name is somebody else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from camfleet_operator.cluster.api import Api
from camfleet_operator.cluster.api_errors import AlreadyExists, Conflict, NotFound
from camfleet_operator.cluster.conditions import READY, TYPES
from camfleet_operator.cluster.pods import PodSeen, read_pod
from camfleet_operator.cluster.store import CameraEntry
from camfleet_operator.cluster.writes import Priority, WriteBudget
from camfleet_protocol.camera import CameraStatus
from camfleet_protocol.cluster import CAMERAS, GROUP, OPERATOR_FIELD_MANAGER, VERSION


class GoneError(Exception):
    """The camera is not there any more, and no event has said so."""


class NotLeadingError(Exception):
    """A write was due, and another replica leads by now: it will see to it."""


class NameTakenError(Exception):
    """A pod of the name that ours would have is there, and is somebody else's."""


class CameraWriter:
    """Writes statuses and pods.

    Every method raises NotLeadingError where this replica does not lead once its turn has come, and ApiError
    where the API server does not take the write.

    Args:
        api: The API server.
        budget: Gives the turns.
        leading: Whether this replica may write.
    """

    def __init__(self, api: Api, budget: WriteBudget, leading: Callable[[], bool]) -> None:
        self._api = api
        self._budget = budget
        self._leading = leading

    @asynccontextmanager
    async def _turn(self, priority: Priority) -> AsyncIterator[None]:
        """Wait for a turn to write; whoever no longer leads by then must not."""
        async with self._budget.take(priority):
            if not self._leading():
                raise NotLeadingError("this replica no longer leads")
            yield

    # ── The camera ──────────────────────────────────────────────────────────────────────────────────

    async def make_sure_of(self, entry: CameraEntry) -> None:
        """Ask for the camera itself before another pod: that it is gone may have gone unheard.

        Raises:
            GoneError: It is not there any more.
        """
        found = await self._api.get(_camera_path(entry))
        if found is None or found["metadata"]["uid"] != entry.uid:
            raise GoneError(entry.key)

    async def write_status(
        self, entry: CameraEntry, status: CameraStatus, *, still: Callable[[], bool] = lambda: True
    ) -> str | None:
        """Apply a status.

        Args:
            entry: The camera.
            status: All of it.
            still: Whether that is still to be written; asked when its turn has come.

        Returns:
            The camera's new resource version; None if it was not to be written any more.

        Raises:
            GoneError: The camera is not there any more.
        """
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "Camera",
            # With the UID, a camera that was made again meanwhile refuses the old one's status.
            "metadata": {"name": entry.name, "namespace": entry.namespace, "uid": entry.uid},
            "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        try:
            async with self._turn(Priority.STATUS):
                if not still():
                    return None
                answer = await self._api.apply_status(
                    _camera_path(entry), body, field_manager=OPERATOR_FIELD_MANAGER
                )
        except (NotFound, Conflict):
            raise GoneError(entry.key) from None  # deleted, and perhaps made again under its name
        return str(answer["metadata"].get("resourceVersion", ""))

    async def write_unreadable(self, entry: CameraEntry, wall: float) -> None:
        """Say that this version cannot read the camera; whatever else its status says stays as it is."""
        now = datetime.fromtimestamp(int(wall), UTC).isoformat().replace("+00:00", "Z")
        conditions = [
            {
                "type": kind,
                "status": "False" if kind == READY else "Unknown",
                "reason": "InvalidSpec",
                "message": entry.problem,
                "observedGeneration": entry.generation,
                "lastTransitionTime": now,
            }
            for kind in TYPES
        ]
        # Not applied, for that would take away what is not said again.
        async with self._turn(Priority.STATUS):
            await self._api.patch_merge(
                f"{_camera_path(entry)}/status", {"status": {"conditions": conditions}}
            )

    # ── Its pods ────────────────────────────────────────────────────────────────────────────────────

    async def find_pod(self, entry: CameraEntry, name: str) -> PodSeen | None:
        """The pod of this name as the API server has it, whoever owns it."""
        found = await self._api.get(f"{_pods_path(entry)}/{name}")
        return read_pod(found) if found is not None else None

    async def delete_pod(
        self, entry: CameraEntry, name: str, uid: str, *, grace_seconds: int | None = None
    ) -> bool:
        """Delete this very pod; False if it was gone."""
        async with self._turn(Priority.DELETE):
            return await self._api.delete(f"{_pods_path(entry)}/{name}", uid=uid, grace_seconds=grace_seconds)

    async def create_pod(self, entry: CameraEntry, body: dict[str, Any]) -> dict[str, Any] | None:
        """Create a pod, or find the one that was made before a restart.

        Returns:
            It; without its containers if it is new, for what the API server has made of them is yet to be
            heard. None if the one that was there has just gone.

        Raises:
            NameTakenError: The one that is there is somebody else's.
        """
        try:
            async with self._turn(Priority.CREATE):
                answer = await self._api.create(_pods_path(entry), body, metadata_only=True)
        except AlreadyExists:
            name = body["metadata"]["name"]
            found = await self._api.get(f"{_pods_path(entry)}/{name}")
            if found is not None and read_pod(found).owner_uid != entry.uid:
                raise NameTakenError(f"there is a pod {name} of somebody else") from None
            return found
        return {"metadata": answer["metadata"]}


def _camera_path(entry: CameraEntry) -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{entry.namespace}/{CAMERAS}/{entry.name}"


def _pods_path(entry: CameraEntry) -> str:
    return f"/api/v1/namespaces/{entry.namespace}/pods"
