"""Which class plays which kind of source."""

from __future__ import annotations

from camfleet_protocol.camera import Source
from camfleet_worker.faults import Fault, SourceError
from camfleet_worker.sources.base import CaptureSource, SourceContext
from camfleet_worker.sources.pattern import PatternSource
from camfleet_worker.sources.video import FileVideoSource, RtspVideoSource


def make_source(spec: Source, context: SourceContext) -> CaptureSource:
    """Make the source; it is not opened yet.

    Raises:
        SourceError: With `UNSUPPORTED`, for a kind that this version cannot play.
    """
    if spec.test_pattern is not None:
        return PatternSource(spec.test_pattern, context)
    if spec.file is not None:
        return FileVideoSource(spec.file, context)
    if spec.rtsp is not None:
        return RtspVideoSource(spec.rtsp, context)
    raise SourceError(
        Fault.UNSUPPORTED,
        f"this version cannot play a source of the kind {spec.type.value}; use rtsp, file or testPattern",
    )
