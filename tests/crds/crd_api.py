"""Cameras and profiles sent to the real API server, and what it says about them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.testbed.control_plane import ControlPlane

from camfleet_protocol.camera import API_VERSION

GROUP_PATH = f"/apis/{API_VERSION}/namespaces/default"
PLURALS = {"Camera": "cameras", "CameraProfile": "cameraprofiles"}


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    body: dict[str, Any]

    @property
    def accepted(self) -> bool:
        """Whether the object was taken; anything but that and a refusal is an error of the test."""
        assert self.code in (200, 201, 400, 422), self.body
        return self.code < 400

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


class CrdApi:
    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane

    def create(self, document: dict[str, Any], *, dry: bool = True, strict: bool = True) -> Answer:
        """POST an object; with `dry` nothing is stored, with `strict` unknown fields are errors."""
        return self._send("POST", f"{GROUP_PATH}/{PLURALS[document['kind']]}", document, dry, strict)

    def put_status(self, document: dict[str, Any]) -> Answer:
        """Replace the status of a Camera, last writer wins."""
        name = document["metadata"]["name"]
        document = {**document, "metadata": {"name": name}}
        live = self.plane.get(f"{GROUP_PATH}/cameras/{name}")
        assert live is not None
        document["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        return self._send("PUT", f"{GROUP_PATH}/cameras/{name}/status", document, False, True)

    def _send(self, method: str, path: str, document: dict[str, Any], dry: bool, strict: bool) -> Answer:
        parameters = {"fieldValidation": "Strict" if strict else "Ignore"}
        if dry:
            parameters["dryRun"] = "All"
        answer = self.plane.client.request(
            method,
            path,
            params=parameters,
            content=json.dumps(document),  # NaN and Infinity go out as they are
            headers={"Content-Type": "application/json"},
        )
        return Answer(answer.status_code, answer.json())


def camera(spec: dict[str, Any] | None = None, name: str = "gate", **more: Any) -> dict[str, Any]:
    """A Camera; without a spec a good one."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Camera",
        "metadata": {"name": name},
        "spec": {"source": {"testPattern": {}}} if spec is None else spec,
        **more,
    }


def profile(spec: dict[str, Any], name: str = "site") -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "CameraProfile", "metadata": {"name": name}, "spec": spec}
