"""What the gateway may change while the worker runs. Readers take one consistent value, without a lock."""

from __future__ import annotations

from dataclasses import dataclass

from camfleet_protocol.messages import Demand
from camfleet_protocol.settings import Settings

NO_DEMAND = Demand()


@dataclass(slots=True)
class Live:
    """Settings and demand in force; each attribute is replaced as a whole, never changed."""

    settings: Settings
    settings_hash: str
    demand: Demand = NO_DEMAND

    @property
    def watched(self) -> bool:
        """Whether anybody wants pictures."""
        demand = self.demand
        return demand.plain or demand.annotated

    @property
    def stream_fps(self) -> float:
        """Pictures per second to publish, at most."""
        asked = self.demand.max_fps
        own = self.settings.stream.fps
        return own if asked is None else min(own, asked)
