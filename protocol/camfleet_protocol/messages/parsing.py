"""From text to a message of one direction. Total: any text gives a message or raises a `ControlError`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from camfleet_protocol.messages.viewer import MAX_VIEWER_CONTROL_BYTES, GatewayToViewer, ViewerToGateway
from camfleet_protocol.messages.worker import MAX_WORKER_CONTROL_BYTES, GatewayToWorker, WorkerToGateway

_MAX_GATEWAY_TO_VIEWER = 64 * MAX_VIEWER_CONTROL_BYTES
"""A gateway tells of all its cameras at once."""


class ControlFault(StrEnum):
    """Why a text is not a control message."""

    TOO_LARGE = "too_large"
    UNKNOWN_OP = "unknown_op"
    INVALID = "invalid"


class ControlError(ValueError):
    """A text that is not a control message of its direction; `fault` says why."""

    def __init__(self, fault: ControlFault, detail: str) -> None:
        super().__init__(f"{fault.value}: {detail}")
        self.fault = fault


_BY_OP = Field(discriminator="op")
_viewer: TypeAdapter[ViewerToGateway] = TypeAdapter(Annotated[ViewerToGateway, _BY_OP])
_to_viewer: TypeAdapter[GatewayToViewer] = TypeAdapter(Annotated[GatewayToViewer, _BY_OP])
_worker: TypeAdapter[WorkerToGateway] = TypeAdapter(Annotated[WorkerToGateway, _BY_OP])
_to_worker: TypeAdapter[GatewayToWorker] = TypeAdapter(Annotated[GatewayToWorker, _BY_OP])

T = TypeVar("T")


def parse_viewer_message(text: str) -> ViewerToGateway:
    """Parse what a viewer sent.

    Raises:
        ControlError: The text is no such message.
    """
    return _parse(_viewer, text, MAX_VIEWER_CONTROL_BYTES)


def parse_gateway_to_viewer(text: str) -> GatewayToViewer:
    """Parse what a gateway sent to a viewer.

    Raises:
        ControlError: The text is no such message.
    """
    return _parse(_to_viewer, text, _MAX_GATEWAY_TO_VIEWER)


def parse_worker_message(text: str) -> WorkerToGateway:
    """Parse what a worker sent.

    Raises:
        ControlError: The text is no such message.
    """
    return _parse(_worker, text, MAX_WORKER_CONTROL_BYTES)


def parse_gateway_to_worker(text: str) -> GatewayToWorker:
    """Parse what a gateway sent to a worker.

    Raises:
        ControlError: The text is no such message.
    """
    return _parse(_to_worker, text, MAX_WORKER_CONTROL_BYTES)


def _parse(adapter: TypeAdapter[T], text: str, limit: int) -> T:
    if len(text) > limit:
        raise ControlError(ControlFault.TOO_LARGE, f"{len(text)} characters, at most {limit}")
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        fault = ControlFault.UNKNOWN_OP if first["type"] == "union_tag_invalid" else ControlFault.INVALID
        where = ".".join(str(part) for part in first["loc"])
        detail = (
            "no such op in this direction" if fault is ControlFault.UNKNOWN_OP else f"{where}: {first['msg']}"
        )
        raise ControlError(fault, detail) from None
    except UnicodeEncodeError:
        raise ControlError(ControlFault.INVALID, "the text has lone surrogates") from None
