"""Where the gateway listens and whether it answers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass

from camfleet_protocol.local import StateFolder

_TIMEOUT_SECONDS = 2.0
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


@dataclass(frozen=True, slots=True)
class GatewayAddress:
    """Ports of a running gateway and the host that viewers use."""

    host: str
    viewer_port: int
    internal_port: int

    @property
    def viewer_url(self) -> str:
        """What a person opens."""
        host = _WILDCARDS.get(self.host, f"[{self.host}]" if ":" in self.host else self.host)
        return f"http://{host}:{self.viewer_port}/"

    @property
    def internal_url(self) -> str:
        """What workers dial."""
        return f"http://127.0.0.1:{self.internal_port}"


def read_gateway_address(state: StateFolder, pid: int, host: str) -> GatewayAddress | None:
    """The address that the gateway with this process id has announced, or None if it has not yet."""
    try:
        announced = json.loads((state.root / "gateway.json").read_bytes())
    except (OSError, ValueError):
        return None
    if announced.get("pid") != pid:
        return None
    return GatewayAddress(host, int(announced["viewer_port"]), int(announced["internal_port"]))


def gateway_ready(address: GatewayAddress) -> bool:
    """Whether the gateway's `/readyz` answers 200. Blocks for at most two seconds."""
    try:
        with urllib.request.urlopen(f"{address.internal_url}/readyz", timeout=_TIMEOUT_SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def streaming_cameras(address: GatewayAddress) -> int:
    """How many cameras have a connected source, by the gateway's metrics. Blocks for at most two seconds."""
    try:
        with urllib.request.urlopen(f"{address.internal_url}/metrics", timeout=_TIMEOUT_SECONDS) as answer:
            text = answer.read(16 * 1024 * 1024).decode()
    except (urllib.error.URLError, OSError):
        return 0
    return sum(
        line.startswith("camfleet_camera_source_connected{") and line.rstrip().endswith((" 1", " 1.0"))
        for line in text.splitlines()
    )
