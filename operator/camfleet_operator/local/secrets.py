"""Which cameras may use which Secret.

Whoever may add cameras through the API must not be able to send a stored password to an address of their own.
A camera from a file may use any Secret: its author can read the password anyway. One that was added through
the API may use a Secret only towards the scheme, host and port that a camera from a file uses it for, or
towards hosts that the Secret's own file `hosts` lists (one a line; `*` for any), whatever the port.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from camfleet_protocol.camera import Camera
from camfleet_protocol.local import SPEC_DIGEST_ANNOTATION

SECRETS_FOLDER = "secrets"
HOSTS_FILE = "hosts"
_ANY = "*"
_MAX_HOSTS_BYTES = 64 * 1024


def secret_refusals(cameras: Mapping[str, Camera], folder: Path) -> dict[str, str]:
    """Why cameras may not use the Secret they name, by camera id; only those that may not.

    Args:
        cameras: All cameras, those from files with `SPEC_DIGEST_ANNOTATION`.
        folder: The cameras' folder.
    """
    trusted: dict[str, set[str]] = {}
    asking: list[tuple[Camera, str]] = []
    for camera in cameras.values():
        secret = camera.spec.source.credentials_secret
        if secret is None:
            continue
        if SPEC_DIGEST_ANNOTATION in camera.metadata.annotations:
            trusted.setdefault(secret, set()).update(camera.spec.source.credential_targets)
        else:
            asking.append((camera, secret))
    refusals: dict[str, str] = {}
    for camera, secret in asking:
        listed = _listed(folder / SECRETS_FOLDER / secret / HOSTS_FILE)
        if _ANY in listed:
            continue
        for target in sorted(camera.spec.source.credential_targets - trusted.get(secret, set())):
            host = urlsplit(target).hostname
            if host not in listed:
                refusals[camera.id] = (
                    f"the Secret {secret} may not be sent to {target}; to allow any port of that host, add "
                    f"{host} to {SECRETS_FOLDER}/{secret}/{HOSTS_FILE}"
                )
                break
    return refusals


def _listed(path: Path) -> set[str]:
    try:
        if path.stat().st_size > _MAX_HOSTS_BYTES:
            return set()
        return {line.strip().lower() for line in path.read_text().splitlines() if line.strip()}
    except (OSError, UnicodeDecodeError):
        return set()
