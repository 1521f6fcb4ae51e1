"""The settings that a camera's status says are in force, read with care: others may have written there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from camfleet_protocol.camera import CameraStatus


def settings_block(status: CameraStatus, name: str) -> Mapping[str, Any]:
    """A block of the settings in force, such as `health`; empty if there is none."""
    block = status.settings.values.get(name) if status.settings is not None else None
    return block if isinstance(block, Mapping) else {}


def seconds_in(block: Mapping[str, Any], field: str, usual: float) -> float:
    """A time in such a block; the usual one where there is none that makes sense."""
    value = block.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return usual
    return float(value) if value > 0 else usual
