"""A worker that hangs: another takes over within a minute, and no other camera notices."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.fault_site import FULL, FaultSite, Pace, freeze
from support.stopwatch import Stopwatch

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CAMERAS = [f"cam-{number}" for number in range(6)]
PROMISED_SECONDS = 60
ENGINE = '''
import os
import time


class Engine:
    """Finds nothing. A file named after its pod lets it hang: once, or always if there is something in it."""

    def process_frame(self, frame):
        file = os.path.join(os.environ["HANG_DIR"], os.environ["CAMFLEET_POD_NAME"])
        if os.path.exists(file):
            if not os.path.getsize(file):
                os.remove(file)
            while True:
                time.sleep(1)
        return None, []
'''


@pytest.fixture(scope="module")
def hang(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a pod's name makes its inference hang."""
    return tmp_path_factory.mktemp("hang")


@pytest.fixture(scope="module")
def site(
    start_shared_site: Callable[..., FaultSite],
    hang: Path,
    pace: Pace,
    tmp_path_factory: pytest.TempPathFactory,
) -> FaultSite:
    """Cameras whose inference can be made to hang."""
    plugins = tmp_path_factory.mktemp("plugins")
    info = plugins / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[camfleet.engines]\nacme = acme_engine:Engine\n")
    (plugins / "acme_engine.py").write_text(ENGINE)
    # With a reading every second, three would be up before the kubelet has started a process again.
    patience = () if pace is FULL else ("--unhealthy-readings=8",)
    made = start_shared_site(
        *patience, environment={"PYTHONPATH": pythonpath(plugins), "HANG_DIR": str(hang)}
    )
    made.create_all(*CAMERAS, inference={"engine": "acme", "fps": 2})
    return made


def pythonpath(first: Path) -> str:
    return os.pathsep.join(filter(None, (str(first), os.environ.get("PYTHONPATH"))))


def others_untouched(site: FaultSite, camera: str, before: dict[str, tuple[int, str]], began: float) -> None:
    now = site.look()
    others = before.keys() - {camera}
    assert {c: now[c] for c in others} == {c: before[c] for c in others}
    assert max(site.watcher.longest_gap(site.id_of(c), began) for c in others) < 5


def test_a_worker_that_stands_still_is_replaced(site: FaultSite, measured: Callable[..., None]) -> None:
    before, node = site.look(), site.node_of("cam-0")
    old = site.pod("cam-0")["metadata"]["name"]
    began, stopwatch = time.time(), Stopwatch()
    freeze(site.worker("cam-0"))
    times = site.wait_streaming(["cam-0"], began, elsewhere={"cam-0": old}, seconds=3 * PROMISED_SECONDS)
    measured("streams again", times["cam-0"])
    assert stopwatch.seconds <= PROMISED_SECONDS
    move = site.last_move("cam-0")
    assert (move["reason"], move["fromNode"], move["count"]) == ("WorkerFault", node, 1)
    assert site.node_of("cam-0") != node
    others_untouched(site, "cam-0", before, began)


def test_a_worker_whose_inference_hangs_examines_pictures_again(
    site: FaultSite, hang: Path, measured: Callable[..., None]
) -> None:
    """By its own watchdog, or by a move: whatever comes first."""
    before, old = site.look(), site.pod("cam-1")["metadata"]["name"]
    (hang / old).touch()
    site.wait(lambda: not (hang / old).exists(), "inference to hang")
    began, stopwatch = time.time(), Stopwatch()
    # What was counted just before it hung is heard of a little later.
    time.sleep(3)
    took = 3 + site.wait_inferring("cam-1", began + 3, seconds=3 * PROMISED_SECONDS)
    measured("pictures are examined again", took)
    measured("by", "a move" if site.attempt("cam-1") == 2 else "the worker's watchdog")
    assert stopwatch.seconds <= PROMISED_SECONDS
    others_untouched(site, "cam-1", before, began)


def test_a_worker_whose_inference_hangs_again_and_again_is_moved(
    site: FaultSite, hang: Path, measured: Callable[..., None]
) -> None:
    """As with a GPU that is broken: a restart in its place does not help."""
    before, old = site.look(), site.pod("cam-3")["metadata"]["name"]
    node = site.node_of("cam-3")
    (hang / old).write_text("always")
    began = time.time()
    times = site.wait_streaming(["cam-3"], began, elsewhere={"cam-3": old}, seconds=6 * PROMISED_SECONDS)
    site.wait_inferring("cam-3", began, seconds=3 * PROMISED_SECONDS)
    measured("moved", times["cam-3"])
    move = site.last_move("cam-3")
    assert (move["reason"], move["fromNode"]) == ("WorkerFault", node)
    others_untouched(site, "cam-3", before, began)


def test_a_worker_that_is_killed_is_started_again_in_its_place(
    site: FaultSite, measured: Callable[..., None]
) -> None:
    """The kubelet is faster than a move, and the worker keeps its node and its outbox."""
    before = site.look()
    began = time.time()
    worker = site.worker("cam-2")
    worker.signal(signal.SIGKILL)
    site.wait(lambda: worker.restarts == 1 and worker.running, "the kubelet to start it again")
    times = site.wait_streaming(["cam-2"], began + 0.5, seconds=3 * PROMISED_SECONDS)
    measured("streams again", times["cam-2"] + 0.5)
    time.sleep(4 * site.pace.scrape)
    assert site.look() == before
