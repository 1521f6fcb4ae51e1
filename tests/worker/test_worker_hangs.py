"""A real worker that hangs ends itself in time and says where; the times are those of the docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from camfleet_worker import capture, inference, stream, watchdog, worker
from camfleet_worker.sources.base import OPEN_TIMEOUT, READ_TIMEOUT
from support.fake_gateway import fake_gateway
from support.stopwatch import Stopwatch
from support.worker_process import worker_process

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "worker.md").read_text()
LIMIT = 2.0
HANGS = {
    "inference": (
        "from camfleet_worker import inference\n"
        "from camfleet_worker.detectors.mock import MockDetector as T\n"
        f"inference.RUN_DEADLINE = {LIMIT}; name = 'detect'",
        "CDLL",
        watchdog.EXIT_CODE,
        r"stage inference is \d+\.\d s late while running inference; ending the process with exit code 70",
    ),
    "capture": (
        "from camfleet_worker import capture\n"
        "from camfleet_worker.sources.pattern import PatternSource as T\n"
        f"capture.READ_TIMEOUT = 0; capture.GRACE_SECONDS = {LIMIT}; name = 'read'",
        "CDLL",
        watchdog.EXIT_CODE,
        r"stage capture is \d+\.\d s late while reading the source; ending the process with exit code 70",
    ),
    "interpreter": (
        "from camfleet_worker import watchdog\n"
        "from camfleet_worker.detectors.mock import MockDetector as T\n"
        f"watchdog.INTERPRETER_STUCK_SECONDS = {LIMIT}; name = 'detect'",
        "PyDLL",  # keeps the interpreter's lock
        watchdog.INTERPRETER_EXIT_CODE,
        r"Timeout \(0:00:02\)!",
    ),
}
HANG_WHEN_TOLD = """
import ctypes, os
whole = getattr(T, name)
def hangs(*args, **more):
    if os.path.exists({file!r}): ctypes.{library}(None).sleep(600)
    return whole(*args, **more)
setattr(T, name, hangs)
"""


@pytest.mark.parametrize("what", HANGS)
async def test_what_hangs_ends_the_process_in_time_and_is_named(tmp_path: Path, what: str) -> None:
    shorten, library, code, said = HANGS[what]
    word = tmp_path / "hang"
    patch = shorten + HANG_WHEN_TOLD.format(file=str(word), library=library)
    source = '{"testPattern": {"width": 320, "height": 240, "fps": 10}}'
    async with (
        fake_gateway() as gateway,
        worker_process(
            tmp_path, gateway_url=gateway.url, source_json=source, detector=("mock",), patch=patch
        ) as hanging,
    ):
        await gateway.until(lambda: gateway.stats and gateway.stats[-1].frames.inferred > 3, "all is well")
        word.touch()
        stopwatch = Stopwatch()
        assert await hanging.wait() == code
        assert stopwatch.seconds < LIMIT + watchdog.TICK_SECONDS + 10
        assert re.search(said, hanging.log())
        assert "hangs" in hanging.log().partition("most recent call first")[2], "the stack shows where"


def test_the_docs_have_the_real_times_and_all_leave_time_to_start_anew() -> None:
    rows = re.findall(r"^\| ([^|]+?) \| (\d+) s", DOCS, re.MULTILINE)
    assert {what: float(seconds) for what, seconds in rows} == {
        "reading the source": READ_TIMEOUT + capture.GRACE_SECONDS,
        "opening the source": OPEN_TIMEOUT + capture.OPEN_GRACE_SECONDS,
        "an inference": inference.RUN_DEADLINE,
        "drawing and encoding": stream.DEADLINE,
        "the event loop": worker.LOOP_DEADLINE,
        "the interpreter as a whole": watchdog.INTERPRETER_STUCK_SECONDS,
    }
    # Pictures again a minute after a hang; a source that is being opened brings none in the first place.
    while_streaming = [float(seconds) for what, seconds in rows if what != "opening the source"]
    assert max(while_streaming) + watchdog.TICK_SECONDS + 10 < 60
    codes = dict(re.findall(r"^\| (\d+) \| ([^|]+) \|", DOCS, re.MULTILINE))
    assert codes.keys() == {
        *map(str, (0, 2, worker.FENCED, watchdog.EXIT_CODE, watchdog.INTERPRETER_EXIT_CODE))
    }
