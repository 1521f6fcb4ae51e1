"""Turns, filters and groups of detectors, and where ONNX Runtime is told to run, as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camfleet_protocol.detections import MAX_DETECTIONS, Detection
from camfleet_protocol.settings import InferenceSettings
from camfleet_worker.detectors import providers, session
from camfleet_worker.detectors.base import BUILT_IN, DetectorContext, InferenceUnavailableError
from camfleet_worker.detectors.filters import Filter, within
from camfleet_worker.detectors.group import DetectorGroup
from camfleet_worker.detectors.providers import CPU, CUDA, TENSORRT, GpuFaultError, is_gpu_fault
from camfleet_worker.detectors.turns import Turns, detector_fps, needed_fps
from camfleet_worker.picture import Image, Picture
from camfleet_worker.settings import WorkerSettings
from camfleet_worker.tracking_port import Ran
from support.require import model_dir


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class BlackPicture(Picture):
    def __init__(self) -> None:
        super().__init__(number=0, captured_ns=1, width=640, height=360, discontinuity=False)
        self.conversions: list[int] = []

    def _convert(self, width: int, height: int) -> Image:
        self.conversions.append(width)
        return np.zeros((height, width, 3), np.uint8)


class Fake:
    """Finds one thing a run, and lets time pass."""

    kind = "object"
    identity = "fake@0123456789ab"

    def __init__(self, clock: Clock, seconds: float = 0.0, label: str = "thing", input_width: int = 320):
        self.input_width = input_width
        self.error: Exception | None = None
        self.runs = 0
        self.confidence = -1.0
        self._clock, self._seconds, self._label = clock, seconds, label

    def detect(self, image: Image, *, confidence: float) -> Sequence[Detection]:
        self.runs += 1
        self.confidence = confidence
        self._clock.now += self._seconds
        if self.error is not None:
            raise self.error
        return [_found(self._label, score=0.9)]


class Failures:
    def __init__(self) -> None:
        self.log: list[str] = []

    def failed(self, name: str, error: Exception) -> None:
        self.log.append(f"-{name}")

    def recovered(self, name: str) -> None:
        self.log.append(f"+{name}")


def _found(
    label: str = "person", score: float = 0.8, box: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.2)
) -> Detection:
    return Detection(kind="object", label=label, score=score, box=box)


def _settings(detectors: Sequence[str] = ("quick", "slow"), fps: float = 5, **more: Any) -> InferenceSettings:
    return InferenceSettings.model_validate({"detectors": detectors, "fps": fps, "confidence": 0.5, **more})


def _at(**rates: float | None) -> dict[str, Any]:
    return {"detectorOptions": [{"name": name, "fps": fps} for name, fps in rates.items()]}


# ── Turns ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "rates", "needed"),
    [
        (_settings(), (5, 5), 5),
        (_settings(**_at(slow=1)), (5, 1), 5),
        (_settings(**_at(slow=1, quick=2)), (2, 1), 2),
        (_settings(**_at(slow=50)), (5, 5), 5),
        (_settings(**_at(slow=None)), (5, 5), 5),
        (_settings(**_at(quick=0.5, other=9)), (0.5, 5), 5),
        (_settings(engine="somebodys", **_at(slow=1, quick=1)), (1, 1), 5),
    ],
)
def test_rates(settings: InferenceSettings, rates: tuple[float, float], needed: float) -> None:
    assert (detector_fps(settings, "quick"), detector_fps(settings, "slow")) == rates
    assert needed_fps(settings) == needed


def _simulate(
    costs: dict[str, float], settings: InferenceSettings, seconds: float = 60.0
) -> tuple[dict[str, float], list[tuple[str, ...]]]:
    """Runs per second of each detector, where the newest picture wins as in the worker."""
    turns, now, together = Turns(tuple(costs)), 100.0, list[tuple[str, ...]]()
    runs = dict.fromkeys(costs, 0)
    period, picture = 1 / needed_fps(settings), 0
    while now < 100.0 + seconds:
        due = turns.due(now, settings)
        together.append(due)
        for name in due:
            now += costs[name]
            turns.took(name, now, costs[name], settings)
            runs[name] += 1
        picture = max(picture + 1, int((now - 100.0) / period))
        now = max(now, 100.0 + picture * period)
    return {name: count / seconds for name, count in runs.items()}, together


@pytest.mark.parametrize(
    ("costs", "settings", "least"),
    [
        ({"quick": 0.005, "slow": 0.02}, _settings(), {"quick": 4.9, "slow": 4.9}),
        ({"quick": 0.005, "slow": 0.02}, _settings(**_at(slow=1)), {"quick": 4.9, "slow": 0.98}),
        ({"quick": 0.005, "slow": 0.02}, _settings(**_at(slow=0.2)), {"quick": 4.9, "slow": 0.19}),
        # In turn on every picture it would be 0.5 and 0.99 a second for all.
        ({"quick": 0.005, "slow": 2.0}, _settings(), {"quick": 2.4, "slow": 0.23}),
        ({"quick": 0.005, "slow": 1.0}, _settings(), {"quick": 2.4, "slow": 0.45}),
        ({"quick": 0.005, "slow": 1.0, "slower": 3.0}, _settings(("quick", "slow", "slower")),
         {"quick": 2.0, "slow": 0.1, "slower": 0.1}),
        ({"slow": 1.0, "slower": 1.0}, _settings(("slow", "slower")), {"slow": 0.48, "slower": 0.48}),
        ({"slow": 1.0}, _settings(("slow",)), {"slow": 0.98}),
    ],
)  # fmt: skip
def test_no_detector_starves_another(
    costs: dict[str, float], settings: InferenceSettings, least: dict[str, float]
) -> None:
    rates, _ = _simulate(costs, settings)
    for name, rate in least.items():
        assert rate <= rates[name] <= detector_fps(settings, name) * 1.05, rates


def test_turns_fall_on_the_same_picture() -> None:
    _, together = _simulate({"quick": 0.005, "slow": 0.02}, _settings(**_at(slow=1)))
    assert {due for due in together if "slow" in due} == {("quick", "slow")}


def test_a_slow_first_run_is_not_held_against_anybody() -> None:
    turns, settings = Turns(("quick", "slow")), _settings()
    assert turns.due(100, settings) == ("quick", "slow")
    turns.took("quick", 100.01, 0.01, settings)
    turns.took("slow", 115, 15, settings)
    assert turns.due(115.2, settings) == ("quick", "slow")


# ── Filters ─────────────────────────────────────────────────────────────────────────────────────────

_SQUARE = ((0.2, 0.2), (0.6, 0.2), (0.6, 0.6), (0.2, 0.6))
_HOOK = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0), (0.5, 0.5), (0.0, 0.5))


@pytest.mark.parametrize(
    ("polygon", "point", "inside"),
    [
        (_SQUARE, (0.4, 0.4), True),
        (_SQUARE, (0.61, 0.4), False),
        (_SQUARE, (0.4, 0.19), False),
        (tuple(reversed(_SQUARE)), (0.4, 0.4), True),
        (_HOOK, (0.75, 0.75), True),
        (_HOOK, (0.25, 0.75), False),
        (_HOOK, (0.25, 0.25), True),
        (((0.0, 0.0), (1.0, 1.0), (1.0, 1.0)), (0.5, 0.4), False),
    ],
)
def test_within(polygon: tuple[tuple[float, float], ...], point: tuple[float, float], inside: bool) -> None:
    assert within(polygon, *point) is inside


def _mask(points: Sequence[tuple[float, float]], detectors: Sequence[str] | None = None) -> dict[str, Any]:
    corners = [{"x": x, "y": y} for x, y in points]
    return {"masks": [{"name": "street", "points": corners, "detectors": detectors}]}


def _options(**values: Any) -> dict[str, Any]:
    return {"detectorOptions": [{"name": "yolox", **values}]}


@pytest.mark.parametrize(
    ("more", "found", "counts"),
    [
        ({}, _found(score=0.5), True),
        ({}, _found(score=0.49), False),
        (_options(confidence=0.3), _found(score=0.31), True),
        (_options(confidence=0.9), _found(score=0.8), False),
        (_options(confidence=0), _found(score=0), True),
        (_options(classes=["car", "person"]), _found("person"), True),
        (_options(classes=["car"]), _found("person"), False),
        (_options(classes=[]), _found("person"), False),
        (_options(minSize=0.2), _found(box=(0, 0, 0.1, 0.2)), True),
        (_options(minSize=0.21), _found(box=(0, 0, 0.9, 0.2)), False),
        ({"detectorOptions": [{"name": "yunet", "confidence": 0.9}]}, _found(score=0.6), True),
        (_mask(_SQUARE), _found(box=(0.35, 0.35, 0.2, 0.2)), False),
        (_mask(_SQUARE), _found(box=(0.0, 0.0, 0.3, 0.3)), True),  # overlaps, but its middle is outside
        (_mask(_SQUARE, ["yunet"]), _found(box=(0.35, 0.35, 0.2, 0.2)), True),
        (_mask(_SQUARE, ["yunet", "yolox"]), _found(box=(0.35, 0.35, 0.2, 0.2)), False),
    ],
)
def test_what_counts(more: dict[str, Any], found: Detection, counts: bool) -> None:
    assert Filter.of(_settings(("yolox", "yunet"), **more), "yolox").apply([found]) == [found] * counts


def test_no_more_counts_than_the_protocol_takes() -> None:
    assert len(Filter(0.5).apply([_found()] * (MAX_DETECTIONS + 7))) == MAX_DETECTIONS


# ── Groups ──────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_found_stays_in_view_but_is_told_once() -> None:
    clock = Clock()
    quick, rare = Fake(clock, label="face"), Fake(clock, label="person")
    group = DetectorGroup([("quick", quick), ("slow", rare)], clock)
    settings = _settings(**_at(slow=1))
    told: list[list[str]] = []
    for number in range(15):
        turn = group.run(BlackPicture(), settings, Failures())
        assert [ran.name for ran in turn.ran] == ["quick", "slow"][: 1 + (number % 5 == 0)]
        told.append([detection.label for detection in turn.fresh])
        seen = group.show(turn, turn.fresh, settings)
        assert [detection.label for detection in seen] == ["face", "person"]
        clock.now += 0.2
    assert told.count(["face", "person"]) == 3 and told.count(["face"]) == 12
    assert turn.ran == (Ran("quick", "object", "fake@0123456789ab"),)


def test_a_picture_is_converted_once_per_width() -> None:
    clock, picture = Clock(), BlackPicture()
    widths = (320, 320, 640, 0)
    group = DetectorGroup([(f"d{n}", Fake(clock, input_width=w)) for n, w in enumerate(widths)], clock)
    assert len(group.run(picture, _settings(["d0", "d1", "d2", "d3"]), Failures()).ran) == 4
    assert sorted(picture.conversions) == [320, 640]


def test_what_tracking_adds_is_shown_until_the_next_turn() -> None:
    clock = Clock()
    group = DetectorGroup([("quick", Fake(clock)), ("slow", Fake(clock))], clock)
    settings = _settings(**_at(slow=1))
    turn = group.run(BlackPicture(), settings, Failures())
    tracked = [found.model_copy(update={"track_id": n}) for n, found in enumerate(turn.fresh)]
    group.show(turn, tracked, settings)
    clock.now += 0.2
    turn = group.run(BlackPicture(), settings, Failures())
    seen = group.show(turn, [found.model_copy(update={"track_id": 7}) for found in turn.fresh], settings)
    assert [found.track_id for found in seen] == [7, 1]
    with pytest.raises(ValueError, match="came back"):
        group.show(turn, [], settings)


def test_who_fails_loses_its_own_boxes_and_who_is_silent_too_long_as_well() -> None:
    clock, failures = Clock(), Failures()
    quick, rare = Fake(clock, label="face"), Fake(clock, label="person")
    group, settings = DetectorGroup([("quick", quick), ("slow", rare)], clock), _settings()

    def labels() -> list[str]:
        turn = group.run(BlackPicture(), settings, failures)
        seen = [detection.label for detection in group.show(turn, turn.fresh, settings)]
        clock.now += 0.2
        return seen

    assert labels() == ["face", "person"]
    quick.error = RuntimeError("no")
    assert labels() == ["person"]
    quick.error = None
    assert labels() == ["face", "person"]
    assert failures.log == ["+quick", "+slow", "-quick", "+slow", "+quick", "+slow"]


def test_new_settings_apply_to_the_next_picture() -> None:
    clock = Clock()
    quick, rare = Fake(clock, label="face"), Fake(clock, label="person")
    group, before = DetectorGroup([("quick", quick), ("slow", rare)], clock), _settings(**_at(slow=1))
    turn = group.run(BlackPicture(), before, Failures())
    assert len(group.show(turn, turn.fresh, before)) == 2
    clock.now += 0.2
    masked = _settings(**_at(slow=1), **_mask(((0, 0), (1, 0), (1, 1), (0, 1)), ["slow"]))
    turn = group.run(BlackPicture(), masked, Failures())
    assert [found.label for found in group.show(turn, turn.fresh, masked)] == ["face"]
    assert quick.confidence == 0.5


def test_a_gpu_fault_is_not_passed_over() -> None:
    class Strict(Failures):
        def failed(self, name: str, error: Exception) -> None:
            raise GpuFaultError(name) from error

    clock = Clock()
    quick = Fake(clock)
    quick.error = RuntimeError("CUDA failure 700: an illegal memory access was encountered")
    with pytest.raises(GpuFaultError):
        DetectorGroup([("quick", quick)], clock).run(BlackPicture(), _settings(["quick"]), Strict())


# ── Execution providers ─────────────────────────────────────────────────────────────────────────────


def test_what_a_provider_is_told(tmp_path: Path) -> None:
    def told(
        wanted: str, memory: int | None, engines: Path | None = None
    ) -> list[tuple[str, dict[str, str]]]:
        return providers.provider_options(wanted, memory_mib=memory, engines=engines)

    shared = {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"}
    capped = shared | {"gpu_mem_limit": str(512 * 2**20)}
    assert told(CPU, 512, tmp_path) == [(CPU, {})]
    assert told(CUDA, None) == [(CUDA, shared)]
    assert told(CUDA, 512) == [(CUDA, capped)]
    assert told(TENSORRT, 512, tmp_path) == [
        (
            TENSORRT,
            {
                "trt_fp16_enable": "True",
                "trt_max_workspace_size": str(512 * 2**20),
                "trt_engine_cache_enable": "True",
                "trt_engine_cache_path": str(tmp_path),
                "trt_timing_cache_enable": "True",
                "trt_timing_cache_path": str(tmp_path),
            },
        ),
        (CUDA, capped),
    ]
    assert told(TENSORRT, None) == [(TENSORRT, {"trt_fp16_enable": "True"}), (CUDA, shared)]


def test_engines_of_other_weights_and_versions_lie_apart(tmp_path: Path) -> None:
    one, other = tmp_path / "a" / "m.onnx", tmp_path / "b" / "m.onnx"
    for path, data in ((one, b"one"), (other, b"other")):
        path.parent.mkdir()
        path.write_bytes(data)
    folders = {
        providers.engine_folder(tmp_path, path, runtime) for path in (one, other) for runtime in ("1", "2")
    }
    assert len(folders) == 4
    assert all(folder.is_relative_to(tmp_path) for folder in folders)
    assert providers.runtime_version().startswith("ort")


def _on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, used: Callable[[list[Any]], list[str]]
) -> list[dict[str, Any]]:
    """An ONNX Runtime that says it has a GPU; returns what its sessions are made with."""
    import onnxruntime

    made: list[dict[str, Any]] = []

    class Session:
        def __init__(self, path: str, options: Any, **arguments: Any) -> None:
            made.append(arguments)
            self._used = used([name for name, _ in arguments["providers"]])

        def get_providers(self) -> list[str]:
            return self._used

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return made


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_silent_fall_back_to_the_cpu_is_refused(
    provider: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = _on_a_gpu(monkeypatch, lambda asked: [CPU])
    weights = tmp_path / "m.onnx"
    weights.write_bytes(b"x")
    with pytest.raises(InferenceUnavailableError, match="would run on CPUExecutionProvider") as caught:
        session.make_session(weights, DetectorContext(provider=provider))
    assert caught.value.reason == "ProviderMissing"
    assert [arguments["enable_fallback"] for arguments in made] == [0]


def test_tensorrt_keeps_its_engines_on_the_volume_where_it_can(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = _on_a_gpu(monkeypatch, lambda asked: [*asked, CPU])
    weights, volume = tmp_path / "m.onnx", tmp_path / "volume"
    weights.write_bytes(b"x")
    session.make_session(weights, DetectorContext(provider="tensorrt", engine_cache_dir=volume))
    kept = made[-1]["providers"][0][1]["trt_engine_cache_path"]
    assert Path(kept).is_dir() and Path(kept).is_relative_to(volume)
    (tmp_path / "file").write_bytes(b"")
    session.make_session(weights, DetectorContext(provider="tensorrt", engine_cache_dir=tmp_path / "file"))
    assert "trt_engine_cache_path" not in made[-1]["providers"][0][1]
    assert "built anew at each start" in caplog.text


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_without_a_gpu_its_providers_are_refused_and_auto_is_the_cpu(
    provider: Any, caplog: pytest.LogCaptureFixture
) -> None:
    import onnxruntime

    if {CUDA, TENSORRT} & set(onnxruntime.get_available_providers()):
        pytest.skip("this ONNX Runtime knows a GPU")
    weights = model_dir() / "yunet_n_dynamic.onnx"
    with pytest.raises(InferenceUnavailableError) as caught:
        session.make_session(weights, DetectorContext(provider=provider, gpu_memory_mib=512))
    assert caught.value.reason == "ProviderMissing"
    assert session.make_session(weights, DetectorContext(provider="auto")).get_providers() == [CPU]
    assert "runs on the CPU" in caplog.text


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", True),
        (
            "Non-zero status code returned while running Conv node. CUDNN failure 4: CUDNN_STATUS_INTERNAL",
            True,
        ),
        ("CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED ; GPU=0", True),
        ("CUDA error: device-side assert triggered", True),
        ("cudaErrorECCUncorrectable", True),
        ("TensorRT EP execution context enqueue failed.", True),
        ("Failed to allocate memory for requested buffer of size 1073741824; CUDA error", False),
        ("Got invalid dimensions for input: images", False),
        ("could not broadcast input array", False),
        ("", False),
    ],
)
def test_what_means_that_the_gpu_is_lost(message: str, fault: bool) -> None:
    assert is_gpu_fault(RuntimeError(message)) is fault


def test_worker_settings_of_the_gpu() -> None:
    settings = WorkerSettings(
        mock=True, provider="tensorrt", gpu_memory_mib=512, engine_cache_dir=Path("/engines")
    )
    assert (settings.provider, settings.gpu_memory_mib) == ("tensorrt", 512)
    with pytest.raises(ValueError, match="gpu_memory_mib"):
        WorkerSettings(mock=True, gpu_memory_mib=12)


def test_built_in_detectors_say_what_they_look_for() -> None:
    from importlib import import_module

    for target in BUILT_IN.values():
        module, _, name = target.partition(":")
        assert getattr(import_module(module), name).kind in {"face", "object", "motion"}
