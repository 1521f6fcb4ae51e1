"""The worker's pod, built from a camera's resolved spec. Pure: the same input gives the same pod.

The fingerprint is a hash of the pod without what may change under it (settings) and what merely names it
(attempt, preferred nodes): a pod with another fingerprint has to be replaced, one with the same never.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from camfleet_operator.cluster.balance.placement import ANYWHERE, Placement
from camfleet_protocol import __version__
from camfleet_protocol.camera import Camera, CameraProfile, GpuMode, SharedSpec
from camfleet_protocol.cluster import (
    ATTEMPT_LABEL,
    CAMERA_LABEL,
    COMPONENT_LABEL,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    TOKEN_AUDIENCE,
    WORKER_COMPONENT,
    pod_name,
)
from camfleet_protocol.settings import Settings, merge

FINGERPRINT_ANNOTATION = "camfleet.io/fingerprint"
PLACEMENT_ANNOTATION = "camfleet.io/placement"
"""Why the pod avoids or prefers nodes, for people; absent if it does neither."""
CONTAINER = "worker"
USER = 10001
GRACE_SECONDS = 10
"""That a worker gets to end."""

_TOKEN_DIR = "/var/run/secrets/camfleet"
_CREDENTIALS_DIR = "/var/run/secrets/camera"
_WORK_DIR = "/var/lib/camfleet"
_MEDIA_DIR = "/media"
_MODELS_DIR = "/models"
_ENGINES_DIR = "/engines"
_LOST_NODE_SECONDS = 30
_HEARTBEAT_SECONDS = 60

_DEFAULT_GPU = {"mode": GpuMode.PREFERRED.value, "resourceName": "nvidia.com/gpu", "count": 1}
_DEFAULT_RESOURCES = {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
_POD_FIELDS = ("gpu", "image", "resources", "placement")


class PodOptions(Protocol):
    """What the installation decides about worker pods; the operator's settings have it."""

    @property
    def gateway_url(self) -> str:
        """Where workers dial."""

    @property
    def worker_image(self) -> str:
        """Image of workers whose Camera and profile name none."""

    @property
    def image_pull_policy(self) -> str:
        """As in a pod."""

    @property
    def image_pull_secret(self) -> Sequence[str]:
        """Secrets with registry credentials."""

    @property
    def models_claim(self) -> str | None:
        """PersistentVolumeClaim with the models' weights."""


class Variant(StrEnum):
    """What a worker computes on. A camera that prefers a GPU may run as either."""

    GPU = "gpu"
    CPU = "cpu"


@dataclass(frozen=True, slots=True)
class WorkerShape:
    """What a camera's pods look like: everything but attempt, settings and preferred nodes."""

    gpu_mode: GpuMode
    gpu_resource: str
    image: str
    specs: dict[Variant, dict[str, Any]]
    """The pod spec of each variant that the camera may run as, with neither settings nor attempt in it."""
    fingerprints: dict[Variant, str]


def shape_worker(
    camera: Camera, profile: CameraProfile | None, defaults: SharedSpec | None, options: PodOptions
) -> WorkerShape:
    """Resolve what a camera's pods look like.

    A field of the camera wins over the profile's, and that over the installation's defaults.
    """
    layers = (defaults, profile.spec if profile else None, camera.spec)
    merged: dict[str, Any] = {"gpu": _DEFAULT_GPU, "resources": _DEFAULT_RESOURCES}
    for layer in layers:
        if layer is not None:
            given = layer.model_dump(mode="json", by_alias=True, exclude_none=True, include=set(_POD_FIELDS))
            merged = merge(merged, given)
    mode = GpuMode(merged["gpu"]["mode"])
    variants = {
        GpuMode.REQUIRED: (Variant.GPU,),
        GpuMode.PREFERRED: (Variant.GPU, Variant.CPU),
        GpuMode.DISABLED: (Variant.CPU,),
    }[mode]
    specs = {variant: _pod_spec(camera, merged, variant, options) for variant in variants}
    return WorkerShape(
        gpu_mode=mode,
        gpu_resource=merged["gpu"]["resourceName"],
        image=merged.get("image") or options.worker_image,
        specs=specs,
        fingerprints={variant: _digest(spec) for variant, spec in specs.items()},
    )


def build_pod(
    camera: Camera,
    camera_uid: str,
    shape: WorkerShape,
    variant: Variant,
    *,
    attempt: int,
    settings: Settings,
    placement: Placement = ANYWHERE,
) -> dict[str, Any]:
    """Build the pod of one attempt, ready to be created.

    Args:
        camera: The camera; its name and namespace.
        camera_uid: UID of the camera, which will own the pod.
        shape: From `shape_worker`.
        variant: GPU or CPU; one of the shape's.
        attempt: Number of the attempt, from 1.
        settings: What the worker starts with.
        placement: Nodes that the scheduler should avoid or prefer if it can.
    """
    name = pod_name(camera.metadata.name, camera_uid, attempt)
    spec = dict(shape.specs[variant])
    container = dict(spec["containers"][0])
    container["env"] = [
        *container["env"],
        {"name": "CAMFLEET_ATTEMPT", "value": str(attempt)},
        {"name": "CAMFLEET_POD_NAME", "value": name},
        {"name": "CAMFLEET_SETTINGS_JSON", "value": json.dumps(settings.values())},
    ]
    spec["containers"] = [container]
    annotations = {
        FINGERPRINT_ANNOTATION: shape.fingerprints[variant],
        "kubectl.kubernetes.io/default-container": CONTAINER,
    }
    if placement.reason:
        annotations[PLACEMENT_ANNOTATION] = placement.reason
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": camera.metadata.namespace,
            "labels": {
                **_labels(),
                CAMERA_LABEL: camera.metadata.name,
                ATTEMPT_LABEL: str(attempt),
            },
            "annotations": annotations,
            "ownerReferences": [
                {
                    "apiVersion": camera.api_version,
                    "kind": camera.kind,
                    "name": camera.metadata.name,
                    "uid": camera_uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": placement.applied(spec),
    }


def _labels() -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "camfleet",
        "app.kubernetes.io/version": __version__,
        "app.kubernetes.io/part-of": "camfleet",
        COMPONENT_LABEL: WORKER_COMPONENT,
        MANAGED_BY_LABEL: MANAGED_BY,
    }


def _pod_spec(
    camera: Camera, merged: dict[str, Any], variant: Variant, options: PodOptions
) -> dict[str, Any]:
    placement = merged.get("placement", {})
    volumes = _Volumes()
    volumes.add(
        "token",
        {
            "projected": {
                "defaultMode": 0o440,
                "sources": [
                    {
                        "serviceAccountToken": {
                            "audience": TOKEN_AUDIENCE,
                            "expirationSeconds": 3600,
                            "path": "token",
                        }
                    }
                ],
            }
        },
        _TOKEN_DIR,
    )
    volumes.add("work", {"emptyDir": {"sizeLimit": "256Mi"}}, _WORK_DIR, read_only=False)
    volumes.add("tmp", {"emptyDir": {"sizeLimit": "64Mi"}}, "/tmp", read_only=False)
    environment = {
        "CAMFLEET_CAMERA": camera.id,
        "CAMFLEET_GATEWAY_URL": options.gateway_url,
        "CAMFLEET_TOKEN_FILE": f"{_TOKEN_DIR}/token",
        "CAMFLEET_WORK_DIR": _WORK_DIR,
        "CAMFLEET_SOURCE_JSON": json.dumps(_source(camera)),
        "CAMFLEET_PROVIDER": _provider(merged["gpu"], variant),
        "CAMFLEET_LOG_FORMAT": "json",
    }
    source = camera.spec.source
    if secret := source.credentials_secret:
        # Optional: a worker without its Secret says so, and finds it when it comes.
        volumes.add(
            "credentials",
            {
                "secret": {
                    "secretName": secret,
                    "optional": True,
                    "defaultMode": 0o440,
                    # Whatever else is in it is none of the worker's business.
                    "items": [{"key": key, "path": key} for key in ("username", "password")],
                }
            },
            _CREDENTIALS_DIR,
        )
        environment["CAMFLEET_CREDENTIALS_DIR"] = _CREDENTIALS_DIR
    if source.file is not None and source.file.claim_name:
        claim = {"claimName": source.file.claim_name, "readOnly": True}
        volumes.add("media", {"persistentVolumeClaim": claim}, _MEDIA_DIR)
        environment["CAMFLEET_MEDIA_ROOT"] = _MEDIA_DIR
    if options.models_claim:
        claim = {"claimName": options.models_claim, "readOnly": True}
        volumes.add("models", {"persistentVolumeClaim": claim}, _MODELS_DIR)
        environment["CAMFLEET_MODEL_DIR"] = _MODELS_DIR
    if variant is Variant.GPU:
        _use_gpu(merged["gpu"], environment, volumes)
    container = {
        "name": CONTAINER,
        "image": merged.get("image") or options.worker_image,
        "imagePullPolicy": options.image_pull_policy,
        "args": ["worker"],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": _resources(camera, merged, variant),
        "volumeMounts": volumes.mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "livenessProbe": {
            "exec": {"command": ["/bin/sh", "-c", _heartbeat_check()]},
            "initialDelaySeconds": 30,
            "periodSeconds": 20,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
    }
    spec: dict[str, Any] = {
        "serviceAccountName": "default",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [
            *(
                {
                    "key": f"node.kubernetes.io/{taint}",
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": _LOST_NODE_SECONDS,
                }
                for taint in ("not-ready", "unreachable")
            ),
            *placement.get("tolerations", []),
        ],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {COMPONENT_LABEL: WORKER_COMPONENT}},
            }
        ],
        "containers": [container],
        "volumes": volumes.volumes,
    }
    for field in ("nodeSelector", "affinity", "priorityClassName"):
        if value := placement.get(field):
            spec[field] = value
    if options.image_pull_secret:
        spec["imagePullSecrets"] = [{"name": name} for name in options.image_pull_secret]
    return spec


class _Volumes:
    """Volumes and where they are mounted, side by side."""

    def __init__(self) -> None:
        self.volumes: list[dict[str, Any]] = []
        self.mounts: list[dict[str, Any]] = []

    def add(self, name: str, volume: dict[str, Any], path: str, *, read_only: bool = True) -> None:
        self.volumes.append({"name": name, **volume})
        self.mounts.append({"name": name, "mountPath": path, "readOnly": read_only})


def _heartbeat_check() -> str:
    """Shell, not Python: a probe that starts an interpreter every 20 s would cost more than the worker."""
    file = f"{_WORK_DIR}/heartbeat"
    return f'test "$(( $(date +%s) - $(stat -c %Y {file}) ))" -lt {_HEARTBEAT_SECONDS}'


def _provider(gpu: dict[str, Any], variant: Variant) -> str:
    """Where inference must run: only a required GPU makes it an error that the image cannot use it."""
    if variant is Variant.CPU:
        return "cpu"
    if gpu.get("runtime") == "TensorRT":
        return "tensorrt"
    return "cuda" if GpuMode(gpu["mode"]) is GpuMode.REQUIRED else "auto"


def _use_gpu(gpu: dict[str, Any], environment: dict[str, str], volumes: _Volumes) -> None:
    """Say how much of a shared GPU the worker may take, and where TensorRT keeps what it builds."""
    if memory := gpu.get("memoryMib"):
        environment["CAMFLEET_GPU_MEMORY_MIB"] = str(memory)
    if claim := gpu.get("engineCacheClaim"):
        volumes.add("engines", {"persistentVolumeClaim": {"claimName": claim}}, _ENGINES_DIR, read_only=False)
        environment["CAMFLEET_ENGINE_CACHE_DIR"] = _ENGINES_DIR


def _source(camera: Camera) -> dict[str, Any]:
    document: dict[str, Any] = camera.spec.source.model_dump(mode="json", by_alias=True, exclude_none=True)
    file = camera.spec.source.file
    if file is not None and file.claim_name:
        document["file"]["path"] = f"{_MEDIA_DIR}/{file.path}"
        del document["file"]["claimName"]  # The path is no longer one in the claim.
    return document


def _resources(camera: Camera, merged: dict[str, Any], variant: Variant) -> dict[str, dict[str, str]]:
    given = merged["resources"]
    requests, limits = dict(given.get("requests", {})), dict(given.get("limits", {}))
    if variant is Variant.GPU:
        # Extended resources need request and limit to be equal; the limit alone says both.
        limits[merged["gpu"]["resourceName"]] = str(merged["gpu"]["count"])
    device = camera.spec.source.device
    if device is not None and device.resource_name:
        limits[device.resource_name] = "1"
    return {"requests": requests, "limits": limits}


def _digest(spec: dict[str, Any]) -> str:
    canonical = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
