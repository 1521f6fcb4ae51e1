"""A metrics page such as a gateway's, whose content a test decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from support.page_server import PageServer

_FAMILIES = (
    "worker_connected",
    "source_connected",
    "last_frame_timestamp_seconds",
    "last_inference_timestamp_seconds",
    "source_errors_total",
)


@dataclass(frozen=True, slots=True)
class Said:
    """What the page says of one camera."""

    worker: bool = True
    source: bool = True
    frames: bool = True
    error: str = ""


class GatewayPage(PageServer):
    """Serves the page on loopback; `default` is said of each of `cameras` that has no word of its own."""

    def __init__(self) -> None:
        self.default: Said | None = Said()
        self.failing = False
        """Whether it answers 503."""
        self.look: Callable[[], None] = lambda: None
        """Runs before each answer: a test may set `said` by what is so at this moment."""
        self.cameras: set[str] = set()
        self.said: dict[str, Said] = {}
        self._errors: dict[str, int] = {}
        super().__init__()

    def answer(self) -> tuple[int, bytes]:
        self.look()
        return (503, b"") if self.failing else (200, self.text().encode())

    def say(self, camera: str, **facts: object) -> None:
        """Say something else of one camera."""
        self.said[camera] = replace(self.said.get(camera, Said()), **facts)  # type: ignore[arg-type]

    def text(self) -> str:
        """The page now, by family as a gateway writes it."""
        now = time.time()
        camera, families = "camfleet_camera_", {}
        for family in _FAMILIES:
            families[family] = [f"# HELP {camera}{family} …", f"# TYPE {camera}{family} gauge"]
        for name in sorted(self.cameras | self.said.keys()):
            if (said := self.said.get(name, self.default)) is None:
                continue
            for family, extra, value in self._samples(name, said, now):
                labels = 'namespace="{}",camera="{}"'.format(*name.split(".", 1))
                families[family].append(f"{camera}{family}{{{labels}{extra}}} {value}")
        clock = ["# TYPE camfleet_gateway_time_seconds gauge", f"camfleet_gateway_time_seconds {now}"]
        return "\n".join([*clock, *(line for lines in families.values() for line in lines)]) + "\n"

    def _samples(self, name: str, said: Said, now: float) -> Iterator[tuple[str, str, float]]:
        yield "worker_connected", "", int(said.worker)
        if not said.worker:
            return
        yield "source_connected", "", int(said.source)
        age = 0.1 if said.frames else 100.0
        yield "last_frame_timestamp_seconds", "", now - age
        yield "last_inference_timestamp_seconds", "", now - age
        if said.error:
            self._errors[name] = self._errors.get(name, 0) + 1
            yield "source_errors_total", f',reason="{said.error}"', self._errors[name]
