"""What a worker that was killed has left behind: appearances that were told, and that nobody would end."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from camfleet_protocol.appearance import Appearance
from camfleet_protocol.messages import EventRecord
from camfleet_worker.log import get_logger
from camfleet_worker.tracking.facade import PutEvent
from camfleet_worker.tracking.wording import message_of, severity_of

logger = get_logger(__name__)


def end_left(events: Iterable[EventRecord], put: PutEvent) -> None:
    """End appearances where they were told last to have been seen; whoever is still there is told anew.

    Args:
        events: As they were told last.
        put: Takes their last revisions.
    """
    ended = 0
    for event in events:
        try:
            appearance = Appearance.model_validate(event.data)
        except ValidationError:
            continue
        appearance = appearance.model_copy(update={"ended": appearance.seen})
        put(
            event.id,
            kind=event.type,
            severity=severity_of(appearance),
            message=message_of(appearance),
            data=appearance.model_dump(mode="json", exclude_none=True),
            time=event.time,
        )
        ended += 1
    if ended:
        logger.info("%d appearances of a worker before this one have ended", ended)
