"""Write `camera_v1.json`: examples of `camera.v1` that every implementation must pass.

Run it (`python -m tests.vectors.make_camera_v1`) after a change of the protocol and review the difference; a
test fails while the file is out of date. 64-bit numbers are strings, because not every JSON reader keeps them
whole.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.vectors.binary_cases import frames, gallery, invalid_frames, invalid_meta
from tests.vectors.control_cases import control

from camfleet_protocol.messages import (
    MAX_SUBSCRIPTIONS,
    MAX_VIEWER_CONTROL_BYTES,
    MAX_WORKER_CONTROL_BYTES,
)
from camfleet_protocol.window import window_size
from camfleet_protocol.wire import MAX_FRAME_BYTES, MAX_META_BYTES, SUBPROTOCOL, VERSION

TARGET = Path(__file__).with_name("camera_v1.json")


def document() -> str:
    """The whole file."""
    windows = [
        (10, 0.0),
        (10, 0.05),
        (10, 0.1),
        (10, 0.11),
        (10, 0.25),
        (25, 0.3),
        (30, 2.0),
        (0.5, 1.0),
        (0, 1.0),
    ]
    content = {
        "subprotocol": SUBPROTOCOL,
        "version": VERSION,
        "limits": {
            "frame_bytes": MAX_FRAME_BYTES,
            "meta_bytes": MAX_META_BYTES,
            "viewer_control_characters": MAX_VIEWER_CONTROL_BYTES,
            "worker_control_characters": MAX_WORKER_CONTROL_BYTES,
            "subscriptions_per_message": MAX_SUBSCRIPTIONS,
        },
        "frames": frames(),
        "gallery": gallery(),
        "invalid_frames": invalid_frames(),
        "invalid_meta": invalid_meta(),
        "control": control(),
        "windows": [
            {"fps": fps, "round_trip_seconds": rtt, "size": window_size(fps, rtt)} for fps, rtt in windows
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
    sys.stdout.write(f"{TARGET.name} written\n")
