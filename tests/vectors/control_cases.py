"""Control messages of every direction, and texts that are none."""

from __future__ import annotations

import json
from typing import Any

from camfleet_protocol import messages as m
from camfleet_protocol.appearance import APPEARANCE, Appearance, Identity, Match
from camfleet_protocol.camera import SourceType

_INVALID_EVERYWHERE: list[tuple[str, str, str]] = [
    ("empty", "", "invalid"),
    ("not JSON", "hello", "invalid"),
    ("not an object", '["ping"]', "invalid"),
    ("no op", '{"t":1}', "invalid"),
    ("op of another type", '{"op":1}', "unknown_op"),
    ("unknown op", '{"op":"reboot"}', "unknown_op"),
    ("cut off", '{"op":"ping","t":1', "invalid"),
]
_INVALID: dict[str, list[tuple[str, str, str]]] = {
    "viewer_to_gateway": [
        ("no cameras", '{"op":"subscribe","cameras":[]}', "invalid"),
        ("cameras not a list", '{"op":"subscribe","cameras":"lobby"}', "invalid"),
        ("upper case camera", '{"op":"subscribe","cameras":["Lobby"]}', "invalid"),
        ("path as camera", '{"op":"subscribe","cameras":["../etc"]}', "invalid"),
        (
            "257 cameras",
            json.dumps({"op": "subscribe", "cameras": ["a"] * 257}, separators=(",", ":")),
            "invalid",
        ),
        ("window 9", '{"op":"subscribe","cameras":["a"],"window":9}', "invalid"),
        ("window 0", '{"op":"subscribe","cameras":["a"],"window":0}', "invalid"),
        ("max_fps 0", '{"op":"subscribe","cameras":["a"],"max_fps":0}', "invalid"),
        ("negative seq", '{"op":"ack","id":1,"seq":-1}', "invalid"),
        ("id over 32 bits", '{"op":"ack","id":4294967296,"seq":1}', "invalid"),
        ("op of the gateway", '{"op":"hello","version":1}', "unknown_op"),
    ],
    "gateway_to_viewer": [
        ("hello without session", '{"op":"hello","version":1,"server":"x","role":"viewer"}', "invalid"),
        ("camera without state", '{"op":"status","cameras":[{"camera":"a","id":1}]}', "invalid"),
        ("unknown state", '{"op":"status","cameras":[{"camera":"a","id":1,"state":"odd"}]}', "invalid"),
        ("pong without time", '{"op":"pong","t":1}', "invalid"),
        ("goaway without reason", '{"op":"goaway"}', "invalid"),
        ("op of a viewer", '{"op":"subscribe","cameras":["a"]}', "unknown_op"),
    ],
    "worker_to_gateway": [
        ("hello without camera", '{"op":"hello","attempt":1}', "invalid"),
        ("negative attempt", '{"op":"hello","camera":"a","attempt":-1}', "invalid"),
        ("stats without source", '{"op":"stats","frames":{}}', "invalid"),
        (
            "metric label with a space",
            '{"op":"stats","source":{"state":"connected"},"frames":{"dropped":{"a b":1}}}',
            "invalid",
        ),
        (
            "event type in upper case",
            '{"op":"event","event":{"id":"1","time":1,"camera":"a","type":"Lost"}}',
            "invalid",
        ),
    ],
    "gateway_to_worker": [
        ("demand with max_fps 0", '{"op":"demand","max_fps":0}', "invalid"),
        ("configure without settings", '{"op":"configure","hash":"x"}', "invalid"),
        ("empty command", '{"op":"command","name":""}', "invalid"),
    ],
}


def control() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Control messages by direction."""
    return {
        direction: {
            "valid": [
                {"op": message.op, "text": message.encode()}  # type: ignore[attr-defined]
                for message in given
            ],
            "invalid": [
                {"name": name, "text": text, "fault": fault}
                for name, text, fault in [*_INVALID_EVERYWHERE, *_INVALID[direction]]
            ],
        }
        for direction, given in _valid().items()
    }


def _valid() -> dict[str, list[m.Message]]:
    info = m.CameraInfo(
        camera="default.lobby",
        id=3,
        state=m.CameraState.LIVE,
        source_type=SourceType.RTSP,
        fps=25.0,
        stream_fps=10.0,
        inference_fps=5.0,
        viewers=2,
        frame_age_ms=41.5,
        width=1920,
        height=1080,
        ai_enabled=True,
        settings={"inference": {"enabled": True}, "stream": {"width": 640}},
        site="front",
    )
    event = m.EventRecord(
        id="0198a5f2-1",
        time=1_760_000_000.25,
        camera="default.lobby",
        type="source.lost",
        severity="warning",
        message="No picture for 20 s",
        data={"seconds": 20},
    )
    appearance = Appearance(
        kind="face",
        label="face",
        track=7,
        started=1_760_000_000.25,
        seen=1_760_000_002.5,
        pictures=11,
        score=0.93,
        identity=Identity.KNOWN,
        person=Match(id="p-1", name="Alex Smith", group="staff", similarity=0.71, runner_up=0.22),
    )
    seen = m.EventRecord(
        id="0198a5f2-2",
        time=1_760_000_000.25,
        camera="default.lobby",
        type=APPEARANCE,
        message="Alex Smith in view.",
        data=appearance.model_dump(mode="json", exclude_defaults=True),
        revision=1,
        order=42,
    )
    stats = m.Stats(
        source=m.SourceStats(state=m.SourceState.CONNECTED, width=1920, height=1080, fps=25.0, codec="h264"),
        frames=m.FrameCounts(captured=250, inferred=50, encoded=100, published=99, dropped={"window": 1}),
        last_frame_ns=1_760_000_000_000_000_000,
        embedder="mobilefacenet@b7120c095d60",
        gallery_version=17,
        present=(m.Present(label="person", zone="door", count=2),),
    )
    return {
        "viewer_to_gateway": [
            m.Subscribe(cameras=("default.lobby", "default.street"), window=3, max_fps=10.0),
            m.Subscribe(cameras=("lobby",), annotated=True),
            m.Unsubscribe(cameras=("default.lobby",)),
            m.Ack(id=3, seq=1_760_000_000_123),
            m.Ping(t=1234.5),
        ],
        "gateway_to_viewer": [
            m.Hello(version=1, session="s-1", server="camfleet/0.1.0", role="viewer", cameras=(info,)),
            m.StatusUpdate(cameras=(info,), removed=("default.old",)),
            m.EventNotice(event=event),
            m.Pong(t=1234.5, time=1_760_000_000.5),
            m.GoAway(reason="the gateway stops", retry_ms=250),
            m.GoAway(reason="the token was withdrawn"),
            m.ProtocolProblem(code="unknown_camera", message="there is no camera default.gone"),
        ],
        "worker_to_gateway": [
            m.WorkerHello(camera="default.lobby", attempt=2, pod="lobby-2-x", source_type=SourceType.FILE),
            stats,
            m.WorkerEvent(event=event),
            m.WorkerEvent(
                event=seen, crop="/9j/2Q==", embedding="ADwAAA==", embedder="mobilefacenet@b7120c095d60"
            ),
        ],
        "gateway_to_worker": [
            m.Accepted(version=1, session="w-1", id=3),
            m.FrameAck(seq=1_760_000_000_123),
            m.EventAck(id="0198a5f2-1"),
            m.EventAck(id="0198a5f2-2", revision=1),
            m.Demand(plain=True, max_fps=10.0),
            m.Configure(hash="0123456789abcdef", settings={"inference": {"enabled": False}}),
            m.Command(name="reopen"),
            m.GoAway(reason="replaced by attempt 3"),
        ],
    }
