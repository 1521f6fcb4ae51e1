"""The worker's pure parts, as tables."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from camfleet_protocol.camera import SourceType
from camfleet_protocol.redaction import redact
from camfleet_worker.counters import MAX_LABELS, Counters, Rate
from camfleet_worker.detectors.base import unit_box
from camfleet_worker.faults import Fault, Handling, classify
from camfleet_worker.ladder import Ladder, gateway_delay
from camfleet_worker.pacing import Pacer
from camfleet_worker.picture import fit_width
from camfleet_worker.presence import Presence
from camfleet_worker.settings import WorkerSettings
from camfleet_worker.sources.credentials import Credentials, join_url
from camfleet_worker.stream import MAX_HOLD_SECONDS, hold_seconds
from camfleet_worker.watchdog import EXIT_CODE, Stage, Watchdog


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# ── Settings ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "source_type"),
    [
        ({"source": "test"}, SourceType.TEST_PATTERN),
        ({"source": "rtsp://10.0.0.1/x"}, SourceType.RTSP),
        ({"source": "http://10.0.0.1/x"}, SourceType.HTTP),
        ({"source": "/dev/video0"}, SourceType.DEVICE),
        ({"source": "clips/a.mp4"}, SourceType.FILE),
        ({"mock": True}, SourceType.TEST_PATTERN),
        ({"source": "test", "source_json": '{"file": {"path": "a.mp4"}}'}, SourceType.FILE),
    ],
)
def test_source_shorthand(given: dict[str, Any], source_type: SourceType) -> None:
    assert WorkerSettings(camera="c", **given).camera_source.type is source_type


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://gw:8081", "ws://gw:8081/ws/worker"),
        ("https://gw/", "wss://gw/ws/worker"),
        ("ws://gw:1/base", "ws://gw:1/base/ws/worker"),
    ],
)
def test_gateway_url(given: str, url: str) -> None:
    assert WorkerSettings(camera="c", source="test", gateway_url=given).websocket_url == url


def test_flags_win_over_the_operators_settings() -> None:
    settings = WorkerSettings(
        camera="shop.door",
        source="test",
        settings_json='{"inference": {"fps": 3, "confidence": 0.9}, "stream": {"width": 320}}',
        detector=("motion",),
        fps=7,
        site="north",
    )
    initial = settings.initial
    assert settings.camera_id == "shop.door"
    assert (initial.inference.fps, initial.inference.confidence) == (7, 0.9)
    assert initial.inference.detectors == ("motion",)
    assert (initial.stream.width, initial.site) == (320, "north")


@pytest.mark.parametrize(
    ("given", "model"),
    [
        ({"embedder": "MobileFaceNet"}, "mobilefacenet"),
        ({"embedder": "none"}, "mine"),
        ({"embedder": ""}, "mine"),
        ({}, "mine"),
    ],
)
def test_the_embedder_is_the_model_of_recognition_and_switches_nothing_on(
    given: dict[str, Any], model: str
) -> None:
    recognition = '{"inference": {"faceRecognition": {"model": "mine", "threshold": 0.6}}}'
    initial = WorkerSettings(camera="c", source="test", settings_json=recognition, **given).initial
    assert initial.inference.face_recognition.model == model
    assert initial.inference.face_recognition.threshold == 0.6
    assert not initial.inference.face_recognition.enabled


def test_plain_name_gets_the_namespace() -> None:
    assert WorkerSettings(camera="door", namespace="shop", source="test").camera_id == "shop.door"


def test_mock_mode_needs_nothing_else() -> None:
    settings = WorkerSettings(mock=True)
    assert settings.initial.inference.detectors == ("mock",)
    assert settings.camera_id == "default.mock"


def test_every_mistake_is_named_and_no_input_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        WorkerSettings(
            camera="UPPER",
            gateway_url="ftp://secret-gw",
            source="rtsp://u:hunter22@cam/x",
            settings_json='{"inference": {"fps": -1}}',
        )
    text = str(caught.value)
    for part in ("camera must be", "gateway_url must be", "user or password", "inference.fps"):
        assert part in text
    assert "hunter22" not in text and "secret-gw" not in text


# ── Ladders and pacing ──────────────────────────────────────────────────────────────────────────────


def test_source_ladder() -> None:
    ladder = Ladder(uniform=lambda low, high: 1.0)
    assert [ladder.next() for _ in range(13)] == [1.0] * 5 + [5.0] * 5 + [10.0] * 3
    ladder.reset()
    assert ladder.next() == 1.0


def test_source_ladder_jitters() -> None:
    ladder = Ladder()
    assert len({ladder.next() for _ in range(5)}) == 5


@pytest.mark.parametrize(
    ("failures", "outage", "delay"),
    [(0, 0, 0.1), (1, 0, 0.2), (3, 1, 0.8), (4, 2, 1.6), (50, 200, 1.6), (50, 301, 5.0)],
)
def test_gateway_delay(failures: int, outage: float, delay: float) -> None:
    assert gateway_delay(failures, outage, lambda low, high: 1.0) == delay


@pytest.mark.parametrize(
    ("source_fps", "wanted", "expected"),
    [(25, 10, 100), (10, 10, 100), (30, 5, 50), (5, 10, 50), (15, 10, 100), (25, 25, 250), (29.97, 7, 70)],
)
@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_pacer_rates(source_fps: float, wanted: float, expected: int, jitter: float) -> None:
    pacer, taken = Pacer(), 0
    for number in range(int(10 * source_fps)):
        now = 50 + (number + jitter * (number * 7 % 5 - 2) / 2) / source_fps
        if pacer.due(now, wanted):
            pacer.taken(now, wanted)
            taken += 1
    assert taken == pytest.approx(expected, rel=0.06)


def test_pacer_follows_a_raised_rate_at_once() -> None:
    pacer = Pacer()
    assert pacer.due(0.0, 0.1)
    pacer.taken(0.0, 0.1)
    assert [pacer.due(0.04 * n, 10) for n in range(1, 6)].count(True) >= 1


@pytest.mark.parametrize(
    ("size", "wanted", "expected"),
    [
        ((1920, 1080), 640, (640, 360)),
        ((1920, 1080), 0, (1920, 1080)),
        ((320, 240), 640, (320, 240)),
        ((1000, 333), 500, (500, 166)),
    ],
)
def test_fit_width(size: tuple[int, int], wanted: int, expected: tuple[int, int]) -> None:
    assert fit_width(*size, wanted) == expected


def test_hold_is_bounded_and_given_up_when_useless() -> None:
    assert hold_seconds(0.01) < 0.03
    assert hold_seconds(0.05) == MAX_HOLD_SECONDS
    assert hold_seconds(0.2) == 0


# ── Presence ────────────────────────────────────────────────────────────────────────────────────────


def _presence() -> tuple[Presence, Clock, list[str]]:
    clock, log = Clock(), list[str]()
    presence = Presence(lambda kind: log.append(f"+{kind}"), lambda kind, _: log.append(f"-{kind}"), clock)
    return presence, clock, log


def test_one_hit_is_no_presence_two_are() -> None:
    presence, clock, log = _presence()
    presence.observe({"face"})
    clock.now += 3
    presence.observe({"face"})
    assert log == []
    clock.now += 0.2
    presence.observe({"face", "motion"})
    assert log == ["+face"]


def test_ends_after_the_hold_also_without_inference() -> None:
    presence, clock, log = _presence()
    for _ in range(3):
        presence.observe({"face"})
        clock.now += 0.2
    clock.now += 4
    presence.tick()
    assert log == ["+face"]
    clock.now += 2
    presence.tick()
    presence.tick()
    assert log == ["+face", "-face"]


def test_flicker_is_no_flood() -> None:
    presence, clock, log = _presence()
    for _ in range(600):  # an hour of: 0.4 s there, 5.6 s away
        for hit in range(30):
            presence.observe({"face"} if hit < 2 else set())
            clock.now += 0.2
    assert len(log) < 10


# ── Faults ──────────────────────────────────────────────────────────────────────────────────────────


def test_faults_fit_the_protocol() -> None:
    assert len(Fault) <= MAX_LABELS
    for fault in Fault:
        assert fault.label.replace("_", "").isalpha() and fault.label.islower()
    assert Fault.AUTH_FAILED.handling is Handling.AUTH_STOP


@pytest.mark.parametrize(
    ("error", "opening", "fault"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), True, Fault.REFUSED),
        (FileNotFoundError(errno.ENOENT, "x"), True, Fault.NOT_FOUND),
        (OSError(errno.EIO, "x"), True, Fault.UNREACHABLE),
        (OSError(errno.EIO, "x"), False, Fault.LOST),
        (TimeoutError(errno.ETIMEDOUT, "x"), True, Fault.TIMEOUT),
        (TimeoutError(errno.ETIMEDOUT, "x"), False, Fault.STALLED),
        (RuntimeError("rtsp://u:pw@h"), True, Fault.ERROR),
    ],
)
def test_classification(error: Exception, opening: bool, fault: Fault) -> None:
    found = classify(error, opening=opening, network=True)
    assert found.fault is fault
    assert "rtsp://" not in found.message


def test_credentials_are_joined_encoded_and_registered() -> None:
    joined = join_url("rtsp://cam:554/s?x=1", Credentials("a b", "p@ss/w:rd#é%"))
    assert joined == "rtsp://a%20b:p%40ss%2Fw%3Ard%23%C3%A9%25@cam:554/s?x=1"
    assert "p%40ss" not in redact(f"cannot open {joined}")
    assert "ss/w" not in redact("Cannot open rtsp://a b:p@ss/w:rd#é%@cam:554/s")


def test_credentials_have_no_repr() -> None:
    assert "hunter22" not in repr(Credentials("u", "hunter22"))


# ── Counting ────────────────────────────────────────────────────────────────────────────────────────


def test_labels_are_bounded() -> None:
    counters = Counters()
    for number in range(100):
        counters.add_labelled("detections", f"kind_{number}")
    counts = counters.labelled("detections")
    assert len(counts) == MAX_LABELS and sum(counts.values()) == 100


def test_rate_falls_when_nothing_comes() -> None:
    clock = Clock()
    rate = Rate(3.0, clock)
    for _ in range(30):
        rate.tick()
        clock.now += 0.1
    assert rate.value() == pytest.approx(10, rel=0.05)
    clock.now += 2
    assert 0 < rate.value() < 8
    clock.now += 2
    assert rate.value() == 0


def test_unit_box() -> None:
    assert unit_box(-0.1, 0.5, 0.2, 1.5) == (0.0, 0.5, 0.2, 0.5)
    assert unit_box(1.1, 0, 1.2, 1) is None


# ── Watchdog ────────────────────────────────────────────────────────────────────────────────────────


def test_watchdog_names_the_late_stage_and_ends_the_process(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    clock, ended = Clock(), list[int]()
    good, bad, idle = (Stage(name, clock) for name in ("good", "bad", "idle"))
    watchdog = Watchdog([good, bad, idle], None, clock=clock, end=ended.append)
    bad.expect(3, "opening the source")
    for _ in range(3):
        good.expect(5)
        clock.now += 1
        assert watchdog.check()
    clock.now += 1
    assert not watchdog.check()
    assert ended == [EXIT_CODE]
    assert "stage bad is 1.0 s late while opening the source" in caplog.text
    assert "most recent call first" in capfd.readouterr().err


def test_a_stopped_process_blames_nobody() -> None:
    clock, ended = Clock(), list[int]()
    stage = Stage("capture", clock)
    watchdog = Watchdog([stage], None, clock=clock, end=ended.append)
    stage.expect(20)
    clock.now += 1
    watchdog.check()
    clock.now += 3600
    assert watchdog.check() and not ended
    for _ in range(25):
        clock.now += 1
        watchdog.check()
    assert ended[0] == EXIT_CODE


def test_heartbeat_is_touched_only_while_all_is_well(tmp_path: Path) -> None:
    heartbeat = tmp_path / "heartbeat"
    watchdog = Watchdog([Stage("s")], heartbeat)
    watchdog.start()
    watchdog.stop()
    assert heartbeat.exists()


def test_a_hanging_stage_ends_a_real_process_and_shows_where_it_hangs() -> None:
    code = (
        "import time; from camfleet_worker.watchdog import Stage, Watchdog\n"
        "stage = Stage('capture'); stage.expect(1, 'opening the source'); Watchdog([stage], None).start()\n"
        "def hangs_for_ever(): time.sleep(60)\n"
        "hangs_for_ever()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == EXIT_CODE
    assert "stage capture is" in done.stderr and "hangs_for_ever" in done.stderr
