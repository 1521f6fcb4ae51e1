"""ONNX Runtime sessions that take the threads they were given and run where they were told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from camfleet_worker.detectors.base import DetectorContext, InferenceUnavailableError
from camfleet_worker.detectors.providers import (
    CPU,
    CUDA,
    NAMES,
    TENSORRT,
    alone_in,
    engine_folder,
    load_gpu_libraries,
    provider_options,
    runtime_version,
)
from camfleet_worker.log import get_logger

logger = get_logger(__name__)


def make_session(path: Path, context: DetectorContext) -> Any:
    """Load a model.

    `auto` takes CUDA where it works, and says so where it does not; a provider that is asked for by name must
    work.

    ONNX Runtime sizes its pool from the host, not the container, and its threads spin while they wait, which
    costs three times the CPU: both are set here.

    Raises:
        InferenceUnavailableError: The model cannot be loaded, or not on this provider.
    """
    if context.provider == "auto":
        try:
            return _session(path, context, CUDA)
        except InferenceUnavailableError as error:
            logger.warning("%s runs on the CPU: %s", path.name, error)
            return _session(path, context, CPU)
    return _session(path, context, NAMES[context.provider])


def _session(path: Path, context: DetectorContext, wanted: str) -> Any:
    import onnxruntime as ort

    if wanted not in ort.get_available_providers():
        raise InferenceUnavailableError("ProviderMissing", f"this ONNX Runtime has no {wanted}")
    if wanted != CPU:
        load_gpu_libraries()
    with _engines(path, context, wanted) as engines:
        providers = provider_options(wanted, memory_mib=context.gpu_memory_mib, engines=engines)
        try:
            # Its own fallback would print a line and go on with the CPU, now or in the middle of a run.
            session = ort.InferenceSession(
                str(path), _options(context.threads), providers=providers, enable_fallback=0
            )
        except Exception as error:  # its exceptions have no common base but this
            raise InferenceUnavailableError(
                "ModelInvalid" if wanted == CPU else "ProviderFailed",
                f"{path.name} cannot be loaded{'' if wanted == CPU else f' on {wanted}'}: {error}",
            ) from error
    used = session.get_providers()[0]
    if used != wanted:
        raise InferenceUnavailableError("ProviderMissing", f"{path.name} would run on {used}, not {wanted}")
    return session


def _options(threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


@contextmanager
def _engines(path: Path, context: DetectorContext, wanted: str) -> Iterator[Path | None]:
    """The folder for TensorRT's engines of a model while nobody else builds there; None if there is none."""
    if wanted != TENSORRT or context.engine_cache_dir is None:
        yield None
        return
    folder = engine_folder(context.engine_cache_dir, path, runtime_version())
    with ExitStack() as held:
        try:
            held.enter_context(alone_in(folder))
        except OSError as error:
            logger.warning(
                "TensorRT's engine for %s is built anew at each start: the engine cache cannot be used (%s)",
                path.name,
                error.strerror,
            )
            yield None
            return
        yield folder
