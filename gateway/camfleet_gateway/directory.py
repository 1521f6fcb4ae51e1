"""Which cameras there are, and how they are changed: the gateway's port to the source of truth.

A folder of JSON files on one box, the Kubernetes API in a cluster, or nothing but memory. Reads are local and
instant; the truth's changes come as callbacks on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from camfleet_protocol.camera import DEFAULT_NAMESPACE, Camera
from camfleet_protocol.local import Controls

Change = Callable[[str, Camera | None], None]
"""Called with the id and the new object, or None when it is gone."""


class BackendError(ValueError):
    """The source of truth cannot be addressed as the settings say; the text is one line for people."""


class DirectoryError(Exception):
    """A change that was not made; `code` is for programs, the text for people."""

    code = "directory_error"


class CameraExistsError(DirectoryError):
    """There is a camera of that name."""

    code = "exists"


class CameraUnknownError(DirectoryError):
    """There is no camera of that name."""

    code = "unknown_camera"


class NotAppliedError(DirectoryError):
    """The change is stored, and nothing has acted on it in time."""

    code = "not_applied"


class StorageError(DirectoryError):
    """The change could not be stored."""

    code = "storage"


class ConflictError(DirectoryError):
    """Somebody else has changed the same camera at the same time."""

    code = "conflict"


class InvalidError(DirectoryError):
    """The API server finds the camera wrong."""

    code = "invalid"


class NotAllowedError(DirectoryError):
    """Nobody may do this through the viewer API."""

    code = "not_allowed"


class ForbiddenError(DirectoryError):
    """The cluster does not let the gateway do this."""

    code = "cluster_forbids"


class Directory(Protocol):
    """The cameras of this installation."""

    @property
    def default_namespace(self) -> str:
        """The namespace of a new camera that names none, and of a plain name that several have."""

    @property
    def ready(self) -> bool:
        """Whether the first listing is in."""

    def cameras(self) -> Mapping[str, Camera]:
        """All cameras by id, as last seen."""

    def watch(self, change: Change) -> None:
        """Call `change` for every camera that comes, goes or differs from now on."""

    async def start(self, failed: Callable[[], None]) -> None:
        """Read the first listing and follow changes from there; `failed` is called if following ends.

        Raises:
            OSError: A state folder cannot be used.
            BackendError: It cannot be addressed as the settings say.
        """

    async def stop(self) -> None:
        """Stop following."""

    async def create(self, camera: Camera) -> None:
        """Add a camera.

        Raises:
            CameraExistsError: The name is taken.
            NotAppliedError: It did not come to life in time.
            DirectoryError: It was refused, or could not be stored.
        """

    async def control(self, camera_id: str, controls: Controls) -> None:
        """Change what viewers may change; a field given as null falls back to the camera's own.

        Raises:
            CameraUnknownError: There is no such camera.
            NotAppliedError: It was not acted upon in time.
            DirectoryError: It was refused, or could not be stored.
        """

    async def delete(self, camera_id: str) -> None:
        """Remove a camera.

        Raises:
            CameraUnknownError: There is no such camera.
            NotAppliedError: It was not acted upon in time.
            DirectoryError: It was refused, or could not be stored.
        """


class DirectoryBase:
    """What all implementations share: the listing and its watchers."""

    def __init__(self) -> None:
        self.default_namespace = DEFAULT_NAMESPACE
        self._cameras: dict[str, Camera] = {}
        self._watchers: list[Change] = []
        self._ready = False

    @property
    def ready(self) -> bool:
        """Whether the first listing is in."""
        return self._ready

    def cameras(self) -> Mapping[str, Camera]:
        """All cameras by id, as last seen."""
        return self._cameras

    def watch(self, change: Change) -> None:
        """Call `change` for every camera that comes, goes or differs from now on."""
        self._watchers.append(change)

    def _apply(self, camera_id: str, camera: Camera | None) -> None:
        if self._cameras.get(camera_id) == camera:
            return
        if camera is None:
            del self._cameras[camera_id]
        else:
            self._cameras[camera_id] = camera
        for watcher in self._watchers:
            watcher(camera_id, camera)
