"""Metrics pages of gateways, camera by camera as a test dictates, served over HTTP for whoever asks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from support.page_server import PageServer


@dataclass(frozen=True)
class Cam:
    """What a gateway says of a camera; a text stands for itself, None leaves the series out.

    Attributes:
        frame: Age of the last picture in seconds; None before the first.
        inference: The same of the last one that was examined.
    """

    worker: float | str | None = 1
    source: float | str | None = 1
    frame: float | str | None = 0.2
    inference: float | str | None = 0.2
    frozen: float | str | None = 0
    errors: dict[str, float] = field(default_factory=dict)

    def series(self, now: float) -> dict[str, float | str | None]:
        """Values by family."""
        held = self.worker == 1
        return {
            "worker_connected": self.worker,
            "source_connected": self.source if held else None,
            "last_frame_timestamp_seconds": _moment(self.frame, now) if held else None,
            "last_inference_timestamp_seconds": _moment(self.inference, now) if held else None,
            "picture_frozen": self.frozen if held else None,
        }


def _moment(age: float | str | None, now: float) -> float | str:
    if age is None:
        return 0
    return age if isinstance(age, str) else now - age


GONE = Cam(worker=0)
"""No worker here."""


class GatewayBoard(PageServer):
    """One gateway's page on a loopback port. `status` other than 200 is a gateway in trouble."""

    def __init__(self) -> None:
        self.cameras: dict[str, Cam] = {}
        self.status = 200
        self.clock: float | None = None
        """The gateway's clock if it stands still."""
        super().__init__()

    def answer(self) -> tuple[int, bytes]:
        return self.status, self.text().encode() if self.status == 200 else b""

    def text(self) -> str:
        """The page now; cameras are `namespace.name`, or a name in `n`."""
        now = self.clock if self.clock is not None else time.time()
        lines = ["# TYPE camfleet_gateway_time_seconds gauge", f"camfleet_gateway_time_seconds {now!r}"]
        rows = {name: cam.series(now) for name, cam in self.cameras.items()}
        for family in Cam().series(now):
            lines.append(f"# TYPE camfleet_camera_{family} gauge")
            for name, values in rows.items():
                if (value := values[family]) is not None:
                    lines.append(f"camfleet_camera_{family}{{{_labels(name)}}} {value}")
        lines.append("# TYPE camfleet_camera_source_errors_total counter")
        for name, cam in self.cameras.items():
            for reason, count in cam.errors.items():
                labels = f'{_labels(name)},reason="{reason}"'
                lines.append(f"camfleet_camera_source_errors_total{{{labels}}} {count}")
        return "\n".join(lines) + "\n"


def _labels(name: str) -> str:
    namespace, _, camera = name.rpartition(".")
    return f'namespace="{namespace or "n"}",camera="{camera}"'
