"""Control messages of `camera.v1`: JSON text with an `op`.

Four directions, each with its own closed set of operations. A receiver ignores unknown fields and does not
act on an unknown `op`: neighbouring versions talk to each other. Parsing is total: any text gives a message
or raises a `ControlError`.
"""

from __future__ import annotations

from camfleet_protocol.messages.common import (
    CameraId,
    CameraInfo,
    CameraState,
    EventRecord,
    GoAway,
    Message,
)
from camfleet_protocol.messages.parsing import (
    ControlError,
    ControlFault,
    parse_gateway_to_viewer,
    parse_gateway_to_worker,
    parse_viewer_message,
    parse_worker_message,
)
from camfleet_protocol.messages.viewer import (
    MAX_SUBSCRIPTIONS,
    MAX_VIEWER_CONTROL_BYTES,
    Ack,
    EventNotice,
    GatewayToViewer,
    Hello,
    Ping,
    Pong,
    ProtocolProblem,
    StatusUpdate,
    Subscribe,
    Unsubscribe,
    ViewerToGateway,
)
from camfleet_protocol.messages.worker import (
    MAX_PICTURE_CHARACTERS,
    MAX_WORKER_CONTROL_BYTES,
    Accepted,
    Command,
    Configure,
    Demand,
    EventAck,
    FrameAck,
    FrameCounts,
    GatewayToWorker,
    Present,
    SourceState,
    SourceStats,
    Stats,
    WorkerEvent,
    WorkerHello,
    WorkerToGateway,
)

__all__ = [
    "MAX_PICTURE_CHARACTERS",
    "MAX_SUBSCRIPTIONS",
    "MAX_VIEWER_CONTROL_BYTES",
    "MAX_WORKER_CONTROL_BYTES",
    "Accepted",
    "Ack",
    "CameraId",
    "CameraInfo",
    "CameraState",
    "Command",
    "Configure",
    "ControlError",
    "ControlFault",
    "Demand",
    "EventAck",
    "EventNotice",
    "EventRecord",
    "FrameAck",
    "FrameCounts",
    "GatewayToViewer",
    "GatewayToWorker",
    "GoAway",
    "Hello",
    "Message",
    "Ping",
    "Pong",
    "Present",
    "ProtocolProblem",
    "SourceState",
    "SourceStats",
    "Stats",
    "StatusUpdate",
    "Subscribe",
    "Unsubscribe",
    "ViewerToGateway",
    "WorkerEvent",
    "WorkerHello",
    "WorkerToGateway",
    "parse_gateway_to_viewer",
    "parse_gateway_to_worker",
    "parse_viewer_message",
    "parse_worker_message",
]
