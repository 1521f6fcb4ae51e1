"""What is paused: cameras, profiles, the installation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from camfleet.kubectl.cluster import Cluster, collection
from camfleet.kubectl.errors import Refused
from camfleet.kubectl.fleet import CameraView, is_paused
from camfleet.kubectl.installation import Installation
from camfleet.kubectl.text import counted

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Pauses:
    """Who is paused, each as `NAMESPACE/NAME`.

    Attributes:
        lease: The installation's Lease; empty if it is not paused, or not known.
        profiles: Profiles.
        cameras: Cameras that are paused themselves.
        unknown: What could not be read.
    """

    lease: str = ""
    profiles: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.lease or self.profiles or self.cameras)

    def text(self) -> str:
        """One line for people."""
        parts = []
        if self.lease:
            parts.append(f"the whole installation (Lease {self.lease})")
        for word, names in (("profile", self.profiles), ("camera", self.cameras)):
            if names:
                more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
                parts.append(f"{counted(len(names), word)} ({', '.join(names[:_NAMED])}{more})")
        return ", ".join(parts) or "nothing"

    def of(self, camera: CameraView) -> list[str]:
        """What pauses one camera."""
        by = [f"Lease {self.lease}"] if self.lease else []
        profile = f"{camera.namespace}/{camera.profile}"
        if profile in self.profiles:
            by.append(f"profile {profile}")
        return [*by, "its own annotation"] if camera.paused else by

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "installation": self.lease or None,
            "profiles": list(self.profiles),
            "cameras": list(self.cameras),
            "unknown": list(self.unknown),
        }


def find_pauses(
    cluster: Cluster,
    namespace: str | None,
    cameras: Iterable[CameraView],
    installation: Installation | None,
) -> Pauses:
    """Look at profiles of a namespace, or all, the cameras given, and the Lease."""
    unknown = []
    profiles: tuple[str, ...] = ()
    try:
        found = cluster.items(collection("cameraprofiles", namespace))
        profiles = tuple(
            f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in found if is_paused(p)
        )
    except Refused:
        unknown.append("profiles")
    lease = ""
    if installation is None or installation.lease is None:
        unknown.append("installation")
    elif is_paused(installation.lease):
        lease = f"{installation.namespace}/{installation.lease_name}"
    return Pauses(lease, profiles, tuple(c.id for c in cameras if c.paused), tuple(unknown))
