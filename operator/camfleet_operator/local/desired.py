"""What should run: the user's YAML with the gateway's overlays on top."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from camfleet_operator.local.folder import CameraFolder, FolderContent, Problem
from camfleet_operator.local.objects import read_overlays
from camfleet_operator.local.secrets import secret_refusals
from camfleet_protocol.camera import Camera, CameraProfile
from camfleet_protocol.local import (
    SPEC_DIGEST_ANNOTATION,
    Overlay,
    StateFolder,
    apply_overlay,
    spec_digest,
)
from camfleet_protocol.settings import Settings, effective_settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Desired:
    """Cameras and profiles in force, by id, and why some cameras may not run."""

    cameras: Mapping[str, Camera] = field(default_factory=dict)
    profiles: Mapping[str, CameraProfile] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)

    def profile_of(self, camera: Camera) -> CameraProfile | None:
        """The profile that a camera refers to, if there is one."""
        profile_id = _profile_id(camera)
        return self.profiles.get(profile_id) if profile_id else None

    def settings_of(self, camera: Camera) -> Settings:
        """The settings that a camera's worker runs with."""
        return effective_settings(camera, self.profile_of(camera))

    def changed_since(self, before: Desired) -> set[str]:
        """Ids of cameras that came, went or changed, or whose profile did."""
        return {
            camera_id
            for camera_id in self.cameras.keys() | before.cameras.keys()
            if (now := self.cameras.get(camera_id)) != (then := before.cameras.get(camera_id))
            or (now and then and self.profile_of(now) != before.profile_of(then))
            or self.refusals.get(camera_id) != before.refusals.get(camera_id)
        }


class DesiredState:
    """Reads folder and overlays again and again, and tells each problem once."""

    def __init__(self, folder: Path, state: StateFolder) -> None:
        self._root = folder
        self._folder = CameraFolder(folder)
        self._state = state
        self._problems: tuple[Problem, ...] = ()

    def read(self) -> Desired:
        """Read what is there now.

        Raises:
            OSError: The folder cannot be listed.
        """
        content = self._folder.read()
        cameras = self._cameras(content)
        desired = Desired(cameras, content.profiles, secret_refusals(cameras, self._root))
        missing = tuple(
            Problem(camera_id, f"there is no CameraProfile {_profile_id(camera)}; defaults apply")
            for camera_id, camera in sorted(desired.cameras.items())
            if _profile_id(camera) and desired.profile_of(camera) is None
        )
        self._tell(content.problems + missing)
        return desired

    def _cameras(self, content: FolderContent) -> dict[str, Camera]:
        overlays = read_overlays(self._state)
        cameras: dict[str, Camera] = {}
        for camera_id in content.cameras.keys() | overlays.keys():
            written = content.cameras.get(camera_id)
            overlay = overlays.get(camera_id)
            camera = apply_overlay(written, overlay)
            if _outlived(written, overlay, camera):
                (self._state.overlay / f"{camera_id}.json").unlink(missing_ok=True)
            if camera is None:
                continue
            if written is not None:
                camera = _annotated(camera, SPEC_DIGEST_ANNOTATION, spec_digest(written))
            cameras[camera_id] = camera
        return cameras

    def _tell(self, problems: tuple[Problem, ...]) -> None:
        for problem in problems:
            if problem not in self._problems:
                logger.error("%s", problem)
        if self._problems and not problems:
            logger.info("all files are good again")
        self._problems = problems


def _outlived(written: Camera | None, overlay: Overlay | None, camera: Camera | None) -> bool:
    """Whether an overlay has nothing left to say: its file is gone, or came back changed after a delete."""
    if overlay is None:
        return False
    if written is None:
        return camera is None
    return camera is not None and overlay.deleted_digest is not None


def _profile_id(camera: Camera) -> str | None:
    if camera.spec.profile_ref is None:
        return None
    return f"{camera.metadata.namespace}.{camera.spec.profile_ref.name}"


def _annotated(camera: Camera, name: str, value: str) -> Camera:
    metadata = camera.metadata.model_copy(
        update={"annotations": {**camera.metadata.annotations, name: value}}
    )
    return camera.model_copy(update={"metadata": metadata})
