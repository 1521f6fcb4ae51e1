"""Where Camfleet keeps things on a user's machine (XDG base directories)."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/camfleet`, by default `~/.cache/camfleet`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "camfleet"


def state_folder(cameras: Path) -> Path:
    """State of one folder of cameras: `$XDG_STATE_HOME/camfleet/NAME-HASH`, `~/.local/state/…` by default."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    resolved = cameras.resolve()
    digest = hashlib.sha256(str(resolved).encode()).hexdigest()[:8]
    return base / "camfleet" / f"{resolved.name or 'root'}-{digest}"


def model_folder() -> Path:
    """`$CAMFLEET_MODEL_DIR` if set, else `models` in the cache folder."""
    if named := os.environ.get("CAMFLEET_MODEL_DIR"):
        return Path(named).expanduser().resolve()
    return cache_folder() / "models"
