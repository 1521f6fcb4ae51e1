"""Sessions, windows and slots, for whoever wonders why a picture is late."""

from __future__ import annotations

from typing import Any

from camfleet_gateway.gateway import Gateway


def debug_view(gateway: Gateway) -> dict[str, Any]:
    """The state of all legs."""
    now = gateway.clock.monotonic()
    workers = []
    for session in gateway.workers.sessions:
        age = session.telemetry.age(now)
        workers.append(
            {
                "session": session.id,
                "camera": session.hello.camera,
                "attempt": session.hello.attempt,
                "pod": session.hello.pod,
                "worker_version": session.hello.worker_version,
                "by_hand": session.credential.by_hand,
                "connected_seconds": round(now - session.telemetry.connected_at, 1),
                "stats_age_ms": round((now - session.telemetry.heard_at) * 1000.0, 1),
                "frame_age_ms": None if age is None else round(age * 1000.0, 1),
                "frames": session.frames,
                "frames_refused": session.frames_refused,
                "bad_messages": session.bad_messages,
                "unsent_bytes": session.link.unsent_bytes,
            }
        )
    return {
        "event_loop_lag_seconds": round(gateway.lag.seconds, 4),
        "cameras": {
            channel.id: {
                "id": channel.number,
                "demand": channel.demand.model_dump(exclude={"op"}),
                "lingering": channel.lingering,
                "viewers": channel.viewers,
                "settings_hash": channel.facts.settings_hash,
            }
            for channel in gateway.hub.channels.values()
        },
        "workers": workers,
        "held_workers": gateway.workers.held,
        "viewers": [member.debug(now) for member in gateway.roster.members],
        "traffic": {
            kind.value: {
                "frames_sent": traffic.frames_sent,
                "frames_skipped": traffic.frames_skipped,
                "bytes_sent": traffic.bytes_sent,
            }
            for kind, traffic in gateway.hub.traffic.items()
        },
        "refused": dict(gateway.refused),
    }
