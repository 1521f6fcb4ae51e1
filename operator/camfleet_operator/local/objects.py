"""The local stand-in for the API server's storage: Cameras with status, one JSON file each.

Only the local runtime writes here; the gateway watches.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from pydantic import ValidationError

from camfleet_protocol.camera import Camera
from camfleet_protocol.local import Overlay, StateFolder, write_atomic

logger = logging.getLogger(__name__)


class ObjectStore:
    """Writes a Camera only when it differs from what is there."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state
        self._written: dict[str, bytes] = {}

    def load(self) -> dict[str, Camera]:
        """The objects that an earlier run left, by id; unreadable ones are dropped."""
        cameras: dict[str, Camera] = {}
        for path in self._state.objects.glob("*.json"):
            try:
                camera = Camera.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):
                logger.warning("dropping %s: not an object of this version", path)
                path.unlink(missing_ok=True)
                continue
            cameras[camera.id] = camera
        return cameras

    def put(self, camera: Camera) -> None:
        """Make the object what the gateway sees."""
        content = json.dumps(
            camera.model_dump(mode="json", by_alias=True, exclude_none=True), indent=1, sort_keys=True
        ).encode()
        if self._written.get(camera.id) != content:
            write_atomic(self._path(camera.id), content)
            self._written[camera.id] = content

    def forget_missing(self) -> set[str]:
        """Ids of objects that were written and are no longer there; they count as not written any more."""
        missing = {camera_id for camera_id in self._written if not self._path(camera_id).exists()}
        for camera_id in missing:
            del self._written[camera_id]
        return missing

    def delete(self, camera_id: str) -> None:
        """Remove the object, as a DELETE would."""
        self._path(camera_id).unlink(missing_ok=True)
        self._written.pop(camera_id, None)

    def _path(self, camera_id: str) -> Path:
        return self._state.objects / f"{camera_id}.json"


def read_overlays(state: StateFolder) -> dict[str, Overlay]:
    """What the gateway has laid over the user's files, by camera id; unreadable ones are put aside."""
    overlays: dict[str, Overlay] = {}
    for path in state.overlay.glob("*.json"):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # removed since it was listed
        try:
            overlays[path.stem] = Overlay.model_validate_json(content)
        except ValidationError:
            aside = path.with_suffix(".bad")
            path.replace(aside)
            logger.error("this is not an overlay of this version, it is now %s", aside)
    return overlays
