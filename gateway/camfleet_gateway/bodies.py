"""Request bodies, read within a bound and refused without ever quoting them: they may hold a secret."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from camfleet_gateway.guard import MAX_BODY_BYTES
from camfleet_gateway.identity import Problem
from camfleet_protocol.camera import (
    API_VERSION,
    DEFAULT_NAMESPACE,
    Camera,
    InvalidObjectError,
    parse_object,
    problem_lines,
)
from camfleet_protocol.local import SPEC_DIGEST_ANNOTATION

Model = TypeVar("Model", bound=BaseModel)

_SHORT_FORM = {"name", "namespace", "spec"}


async def read_json(request: Request) -> Any:
    """The decoded body.

    Raises:
        Problem: It is too large or not JSON.
    """
    try:
        body = await request.body()
    except ClientDisconnect:
        raise Problem(413, "too_large", f"a body of at most {MAX_BODY_BYTES} bytes is taken") from None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(422, "invalid", "the body is not JSON", ("body: this is not JSON",)) from None


async def read_model(request: Request, model: type[Model]) -> Model:
    """The body as a model.

    Raises:
        Problem: With every mistake named, and no value.
    """
    document = await read_json(request)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise Problem(422, "invalid", "the body is not valid", problem_lines(error)) from None


async def read_camera(request: Request, default_namespace: str = DEFAULT_NAMESPACE) -> Camera:
    """A camera to be added: a whole object, or `{"name", "namespace", "spec"}`.

    Args:
        request: The request.
        default_namespace: Namespace of a camera that names none.

    Raises:
        Problem: With every mistake named, and no value.
    """
    document = await read_json(request)
    if isinstance(document, dict) and "name" in document and "metadata" not in document:
        if unknown := sorted(str(key)[:63] for key in document.keys() - _SHORT_FORM):
            raise Problem(
                422, "invalid", "the camera is not valid", tuple(f"{k}: no such field" for k in unknown)
            )
        document = {
            "apiVersion": API_VERSION,
            "kind": "Camera",
            "metadata": {
                "name": document["name"],
                "namespace": document.get("namespace") or default_namespace,
            },
            **({"spec": document["spec"]} if "spec" in document else {}),
        }
    elif isinstance(document, dict) and isinstance(metadata := document.get("metadata"), dict):
        metadata.setdefault("namespace", default_namespace)
    try:
        camera = parse_object(document)
    except InvalidObjectError as error:
        raise Problem(422, "invalid", "the camera is not valid", error.problems) from None
    if not isinstance(camera, Camera):
        raise Problem(422, "invalid", "this is not a Camera", ("kind: must be Camera",))
    return _without_claims(camera)


def _without_claims(camera: Camera) -> Camera:
    """Take off the mark of objects that come from the user's own files: those may name any file to play."""
    annotations = {
        key: value for key, value in camera.metadata.annotations.items() if key != SPEC_DIGEST_ANNOTATION
    }
    metadata = camera.metadata.model_copy(update={"annotations": annotations, "generation": 0})
    return camera.model_copy(update={"metadata": metadata})
