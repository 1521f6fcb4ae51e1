"""How the programs of one box share state without an API server: files in one folder, one writer each.

The local runtime plays the API server and the operator: it alone reads the user's YAML and writes `objects/`
(whole Cameras with status, as a LIST would give them). The gateway reads those, and writes what viewers with
the right role change into `overlay/`; the user's own files are never touched. Identities of workers are
tokens signed with a key that only the two can read, as a projected token is in a cluster.

```
STATE/objects/NAMESPACE.NAME.json    Camera with status     local runtime → gateway
STATE/overlay/NAMESPACE.NAME.json    Overlay                gateway → local runtime
STATE/keys/worker.key                32 random bytes        both
STATE/tokens/NAMESPACE.NAME          the worker's token     local runtime → worker
STATE/work/NAMESPACE.NAME/           outbox, heartbeat      worker
```
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from camfleet_protocol.camera import Camera, InferenceSpec, Spec, StreamSpec
from camfleet_protocol.settings import merge
from camfleet_protocol.signing import sign, verify


class Controls(Spec):
    """What viewers may change of a camera while it runs; the same fields as in its spec."""

    suspend: bool | None = None
    inference: InferenceSpec | None = None
    stream: StreamSpec | None = None


class Overlay(Spec):
    """A gateway's word on one camera, laid over the user's files.

    Attributes:
        camera: A camera that exists only here, added through the API.
        controls: Fields that win over the spec.
        deleted_digest: The camera was deleted through the API. It stays so until its file changes, that is
            until the digest of its spec is another one.
    """

    camera: Camera | None = None
    controls: Controls = Controls()
    deleted_digest: Annotated[str, Field(max_length=64)] | None = None


def spec_digest(camera: Camera) -> str:
    """SHA-256 of a camera's spec, before any overlay."""
    spec = camera.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()


SPEC_DIGEST_ANNOTATION = "camfleet.io/spec-digest"
"""Set by the local runtime on objects that come from a user's file; absent on those added by the API."""


def apply_overlay(camera: Camera | None, overlay: Overlay | None) -> Camera | None:
    """The camera that is in force: the user's file (or the API's addition) with the overlay on top.

    Returns:
        None if there is no such camera, or it was deleted and its file has not changed since.
    """
    if overlay is None:
        return camera
    if camera is None:
        camera = overlay.camera
    elif overlay.deleted_digest == spec_digest(camera):
        return None
    if camera is None:
        return None
    controls = overlay.controls.model_dump(mode="json", by_alias=True, exclude_none=True)
    if not controls:
        return camera
    document = camera.model_dump(mode="json", by_alias=True, exclude_none=True)
    return Camera.model_validate(merge(document, {"spec": controls}))


class StateFolder:
    """Paths inside the state folder; creates it, readable by its owner only."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects = root / "objects"
        self.overlay = root / "overlay"
        self.tokens = root / "tokens"
        self.work = root / "work"
        self.worker_key = root / "keys" / "worker.key"

    def create(self) -> None:
        """Make the folders and the worker key, if they are not there."""
        for folder in (self.root, self.objects, self.overlay, self.tokens, self.work, self.worker_key.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.worker_key.exists():
            write_atomic(self.worker_key, os.urandom(32))


def write_atomic(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file so that a reader sees the old or the new content, whole."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """Who a worker is, proven by its token; a pod name and UID in a cluster, a spawn id on one box."""

    camera: str
    attempt: int
    pod_uid: str


def sign_worker_token(key: bytes, identity: WorkerIdentity) -> str:
    """Make the token of one spawned worker."""
    body = json.dumps(asdict(identity), separators=(",", ":")).encode()
    return sign(key, body)


def verify_worker_token(key: bytes, token: str) -> WorkerIdentity | None:
    """The identity that a token proves, or None if it proves nothing."""
    body = verify(key, token)
    return None if body is None else _identity(body)


def _identity(body: bytes) -> WorkerIdentity | None:
    try:
        claims: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    match claims:
        case {"camera": str(camera), "attempt": int(attempt), "pod_uid": str(pod_uid)}:
            if attempt >= 0 and not isinstance(attempt, bool):
                return WorkerIdentity(camera=camera, attempt=attempt, pod_uid=pod_uid)
    return None
