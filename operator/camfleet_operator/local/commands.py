"""How the gateway and the workers of one box are started.

Arguments can be read in `ps` by anybody on the machine, so they carry names and addresses only; a worker gets
its token as the path of a file that its owner alone can read, and its camera's credentials likewise.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from camfleet_operator.local.processes import Command
from camfleet_operator.local.secrets import SECRETS_FOLDER
from camfleet_operator.local.settings import LocalSettings
from camfleet_protocol.camera import Camera
from camfleet_protocol.local import SPEC_DIGEST_ANNOTATION, StateFolder, WorkerIdentity
from camfleet_protocol.settings import Settings

_GATEWAY_OPTIONS = (
    *("tokens_file", "model_dir", "database_url_file", "milvus_url", "milvus_token_file", "key_file"),
    "webhooks_file",
)
"""Passed on as they are, where they are given."""


def worker_fingerprint(camera: Camera) -> str:
    """Hash of the parts of a spec that only a new worker can apply."""
    spec = camera.spec.model_dump(mode="json", by_alias=True, exclude_none=True, include={"source", "image"})
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]


def worker_command(
    camera: Camera,
    effective: Settings,
    *,
    identity: WorkerIdentity,
    internal_url: str,
    settings: LocalSettings,
) -> Command:
    """The command that runs one camera's worker."""
    state = StateFolder(settings.state_dir)
    environment = {
        "CAMFLEET_SOURCE_JSON": json.dumps(_source(camera, settings.folder)),
        "CAMFLEET_SETTINGS_JSON": json.dumps(effective.values()),
    }
    arguments = [
        "worker",
        f"--camera={camera.id}",
        f"--attempt={identity.attempt}",
        f"--pod-name={identity.pod_uid}",
        f"--gateway-url={internal_url}",
        f"--token-file={state.tokens / camera.id}",
        f"--work-dir={state.work / camera.id}",
        f"--provider={settings.provider}",
        f"--log-level={settings.log_level}",
        f"--log-format={settings.log_format}",
        "--exit-with-parent",
    ]
    if secret := camera.spec.source.credentials_secret:
        arguments.append(f"--credentials-dir={settings.folder / SECRETS_FOLDER / secret}")
    if settings.model_dir:
        arguments.append(f"--model-dir={settings.model_dir}")
    if SPEC_DIGEST_ANNOTATION not in camera.metadata.annotations:
        # Added through the API: it may name the folder's own media, not any file of this machine.
        arguments.extend(f"--media-root={root}" for root in (settings.folder, *settings.media_root))
    return Command(arguments, environment)


def gateway_command(settings: LocalSettings, *, viewer_port: int, internal_port: int) -> Command:
    """The command that runs the gateway."""
    arguments = [
        "gateway",
        f"--host={settings.host}",
        f"--port={viewer_port}",
        "--internal-host=127.0.0.1",
        f"--internal-port={internal_port}",
        f"--state-dir={settings.state_dir}",
        f"--embedder={settings.embedder}",
        f"--retention-days={settings.retention_days}",
        f"--retention-bytes={settings.retention_bytes}",
        f"--log-level={settings.log_level}",
        f"--log-format={settings.log_format}",
        "--exit-with-parent",
        *(f"--allowed-origin={origin}" for origin in settings.allowed_origin),
        *(f"--allowed-host={host}" for host in settings.allowed_host),
    ]
    given = {name.replace("_", "-"): getattr(settings, name) for name in _GATEWAY_OPTIONS}
    arguments.extend(f"--{option}={value}" for option, value in given.items() if value is not None)
    return Command(arguments, {})


def _source(camera: Camera, folder: Path) -> dict[str, object]:
    """The camera's source with a relative file path made absolute, relative to the cameras' folder.

    A claim means nothing here, and a path in one would have to be relative.
    """
    document: dict[str, object] = camera.spec.source.model_dump(mode="json", by_alias=True, exclude_none=True)
    if (file := camera.spec.source.file) is not None:
        document["file"] = {
            **file.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"claim_name"}),
            "path": os.path.abspath(folder / file.path),
        }
    return document
