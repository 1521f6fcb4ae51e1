"""The directory of a cluster: Cameras watched through the Kubernetes API, changed through it too.

The gateway writes no status and reads no Secret. What viewers change is a server-side apply of a field
manager of its own (`owned_fields`); what they may add is in `added_cameras`. A change counts as made when the
API has taken it and our own watch has shown it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pydantic import ValidationError

from camfleet_gateway.added_cameras import problem_with
from camfleet_gateway.directory import (
    CameraExistsError,
    CameraUnknownError,
    ConflictError,
    DirectoryBase,
    DirectoryError,
    ForbiddenError,
    InvalidError,
    NotAllowedError,
    NotAppliedError,
    StorageError,
)
from camfleet_gateway.kube import APPLY, Json, Kube, KubeError, KubeUnreachableError
from camfleet_gateway.kube_watch import IDLE_SECONDS, KubeWatch
from camfleet_gateway.kubernetes_objects import digest, essence, new_object, read_camera, uid_of
from camfleet_gateway.owned_fields import next_apply
from camfleet_gateway.tasks import start_task
from camfleet_protocol.camera import Camera, CameraStatus, problem_lines
from camfleet_protocol.cluster import CAMERAS, GATEWAY_FIELD_MANAGER, GROUP, VERSION
from camfleet_protocol.local import Controls

logger = logging.getLogger(__name__)

APPLY_SECONDS = 3.0
_TRIES = 5
"""Applies before giving up: each races with the operator's status writes."""
_API = f"/apis/{GROUP}/{VERSION}"


class KubernetesDirectory(DirectoryBase):
    """Cameras of all namespaces, or of some."""

    def __init__(
        self, kube: Kube, namespaces: tuple[str, ...] = (), *, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        """Prepare it.

        Args:
            kube: The API server; opened and closed by this directory.
            namespaces: Those that are served; none for all.
            idle_seconds: Silence after which a watch counts as dead.
        """
        super().__init__()
        self._kube = kube
        self._namespaces = namespaces
        if namespaces:
            self.default_namespace = namespaces[0]
        self._digests: dict[str, int] = {}
        self._refused: set[str] = set()
        """Cameras that are not ones for this version, each told once."""
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._watches = [
            KubeWatch(
                kube,
                _collection(namespace),
                _Scope(self, namespace),
                what=f"cameras of the namespace {namespace}" if namespace else "cameras",
                idle_seconds=idle_seconds,
            )
            for namespace in (namespaces or (None,))
        ]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """Whether the first listing is in."""
        return all(watch.listed for watch in self._watches)

    @property
    def current(self) -> bool:
        """Whether what is known is as new as the API server's, as far as one can know."""
        return all(watch.listed and watch.current for watch in self._watches)

    async def start(self, failed: Callable[[], None]) -> None:
        """Begin to follow the cameras; the API server need not be there yet.

        Raises:
            KubeConfigError: It is not known where it is.
        """
        await self._kube.open()
        self._tasks = [start_task(watch.run(), name="directory", failed=failed) for watch in self._watches]

    async def stop(self) -> None:
        """Stop following."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._kube.close()

    # ── What the watch shows ───────────────────────────────────────────────────────────────────────

    def seen(self, document: Json) -> None:
        """Take a camera as it is now; what does not differ for us costs no more than a look."""
        found = essence(document)
        camera_id = f"{found['metadata']['namespace']}.{found['metadata']['name']}"
        mark = digest(found)
        if self._digests.get(camera_id) == mark:
            return
        self._digests[camera_id] = mark
        try:
            camera = read_camera(found, self._cameras.get(camera_id))
        except ValidationError as error:
            if camera_id not in self._refused:
                self._refused.add(camera_id)
                logger.error(
                    "not a camera for this version, what was known of it stays: %s: %s",
                    camera_id,
                    "; ".join(problem_lines(error)),
                )
            return
        self._refused.discard(camera_id)
        self._apply(camera_id, camera)
        self._tell(camera_id)

    def gone(self, namespace: str, name: str) -> None:
        """Forget a camera."""
        camera_id = f"{namespace}.{name}"
        self._digests.pop(camera_id, None)
        self._refused.discard(camera_id)
        if camera_id in self._cameras:
            self._apply(camera_id, None)
        self._tell(camera_id)

    def listed(self, namespace: str | None, present: set[tuple[str, str]]) -> None:
        """Forget what a listing of a namespace, or of all, did not name."""
        for camera_id in list(self._digests):
            where, _, name = camera_id.partition(".")
            if (namespace is None or where == namespace) and (where, name) not in present:
                self.gone(where, name)

    def _tell(self, camera_id: str) -> None:
        for event in self._waiting.get(camera_id, ()):
            event.set()

    async def _until(self, camera_id: str, condition: Callable[[], bool]) -> None:
        event = asyncio.Event()
        waiting = self._waiting.setdefault(camera_id, set())
        waiting.add(event)
        try:
            async with asyncio.timeout(APPLY_SECONDS):
                while not condition():
                    event.clear()
                    await event.wait()
        except TimeoutError:
            raise NotAppliedError(
                f"stored, but the gateway's own view has not shown it within {APPLY_SECONDS:g} s"
            ) from None
        finally:
            waiting.discard(event)
            if not waiting:
                self._waiting.pop(camera_id, None)

    # ── Changes ────────────────────────────────────────────────────────────────────────────────────

    async def create(self, camera: Camera) -> None:
        """Make the Camera, if viewers may add such a one."""
        namespace = camera.metadata.namespace
        if self._namespaces and namespace not in self._namespaces:
            raise NotAllowedError(f"this gateway serves the namespaces {', '.join(self._namespaces)} only")
        if camera.id in self._cameras:
            raise CameraExistsError(f"there is a camera {camera.id} already")
        problem = problem_with(camera, self._cameras.values())
        if problem is not None:
            raise NotAllowedError(problem)
        camera = camera.model_copy(update={"status": CameraStatus()})
        query = {"fieldManager": GATEWAY_FIELD_MANAGER, "fieldValidation": "Strict"}
        made = await _checked(
            self._kube.call("POST", _collection(namespace), query=query, body=new_object(camera)),
            camera.id,
            "create cameras",
        )
        await self._until(camera.id, lambda: self._is(camera.id, made["metadata"]["uid"]))

    async def control(self, camera_id: str, controls: Controls) -> None:
        """Apply the controls, with all the fields that are ours already."""
        path = self._path(camera_id)
        given = controls.model_dump(mode="json", by_alias=True, exclude_unset=True)
        query = {"fieldManager": GATEWAY_FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        for attempt in range(_TRIES):
            live = await _checked(self._kube.call("GET", path), camera_id, "get cameras")
            call = self._kube.call(
                "PATCH", path, query=query, body=next_apply(live, given), content_type=APPLY
            )
            try:
                made = await _checked(call, camera_id, "patch cameras")
                break
            except ConflictError:  # the object has changed since we read it
                if attempt == _TRIES - 1:
                    raise
        generation, uid = made["metadata"]["generation"], made["metadata"]["uid"]

        def applied() -> bool:
            camera = self._cameras.get(camera_id)
            return camera is None or uid_of(camera) != uid or camera.metadata.generation >= generation

        await self._until(camera_id, applied)

    async def delete(self, camera_id: str) -> None:
        """Delete the very camera that we know."""
        path = self._path(camera_id)
        uid = uid_of(self._cameras[camera_id])
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        await _checked(self._kube.call("DELETE", path, body=body), camera_id, "delete cameras")
        await self._until(camera_id, lambda: not self._is(camera_id, uid))

    def _is(self, camera_id: str, uid: str) -> bool:
        camera = self._cameras.get(camera_id)
        return camera is not None and uid_of(camera) == uid

    def _path(self, camera_id: str) -> str:
        if camera_id not in self._cameras:
            raise CameraUnknownError(f"there is no camera {camera_id}")
        namespace, _, name = camera_id.partition(".")
        return f"{_collection(namespace)}/{name}"


class _Scope:
    """One watch's part of the directory."""

    def __init__(self, directory: KubernetesDirectory, namespace: str | None) -> None:
        self._directory = directory
        self._namespace = namespace
        self.seen = directory.seen
        self.gone = directory.gone

    def listed(self, present: set[tuple[str, str]]) -> None:
        self._directory.listed(self._namespace, present)


def _collection(namespace: str | None) -> str:
    return f"{_API}/{CAMERAS}" if namespace is None else f"{_API}/namespaces/{namespace}/{CAMERAS}"


async def _checked(call: Awaitable[Json], camera_id: str, act: str) -> Json:
    """Await a call of the API, its errors turned into the directory's.

    Args:
        call: The call.
        camera_id: Which camera it is about.
        act: What it needs to be allowed: verb and resource.
    """
    try:
        return await call
    except KubeUnreachableError as error:
        logger.error("the Kubernetes API cannot be reached: %s", error)
        raise StorageError("the change is not made: the Kubernetes API cannot be reached") from None
    except KubeError as error:
        raise _problem(error, camera_id, act) from None


def _problem(error: KubeError, camera_id: str, act: str) -> DirectoryError:
    namespace = camera_id.partition(".")[0]
    match error.status, error.reason:
        case 404, _:
            if act.startswith("create"):
                return InvalidError(f"the Kubernetes API says: {error}")  # the namespace
            return CameraUnknownError(f"there is no camera {camera_id}")
        case 409, "AlreadyExists":
            return CameraExistsError(f"there is a camera {camera_id} already")
        case 409, _:
            return ConflictError(f"the camera {camera_id} was changed or made anew meanwhile; try again")
        case ((400 | 422), _):
            return InvalidError(f"the Kubernetes API says: {error}")
        case 403, _:
            logger.error("refused by the Kubernetes API: %s", error)
            return ForbiddenError(
                f"the cluster refuses: the gateway may not {act} in the namespace {namespace}, "
                f"or a quota or policy is in the way: {error}"
            )
    logger.error("the Kubernetes API has failed: %s %s", error.status, error)
    return StorageError(f"the change is not made: the Kubernetes API says: {error}")
