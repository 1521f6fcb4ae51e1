"""ONNX Runtime sessions that take the threads they were given and run where they were told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from camfleet_worker.detectors.base import InferenceUnavailableError
from camfleet_worker.log import get_logger

logger = get_logger(__name__)

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def make_session(path: Path, *, threads: int, provider: Literal["auto", "cpu", "cuda"]) -> Any:
    """Load a model.

    `auto` takes CUDA where it works, and says so where it does not; a provider that is asked for by name must
    work.

    ONNX Runtime sizes its pool from the host, not the container, and its threads spin while they wait, which
    costs three times the CPU: both are set here.

    Raises:
        InferenceUnavailableError: The model cannot be loaded, or not on this provider.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    if provider == "auto":
        try:
            return _session(path, options, _PROVIDERS["cuda"])
        except InferenceUnavailableError as error:
            logger.warning("%s runs on the CPU: %s", path.name, error)
            provider = "cpu"
    return _session(path, options, _PROVIDERS[provider])


def _session(path: Path, options: Any, wanted: str) -> Any:
    import onnxruntime as ort

    if wanted not in ort.get_available_providers():
        raise InferenceUnavailableError("ProviderMissing", f"this ONNX Runtime has no {wanted}")
    try:
        session = ort.InferenceSession(str(path), options, providers=[wanted])
    except Exception as error:  # its exceptions have no common base but this
        raise InferenceUnavailableError("ModelInvalid", f"{path.name} cannot be loaded: {error}") from error
    if session.get_providers()[0] != wanted:
        raise InferenceUnavailableError(
            "ProviderMissing", f"{path.name} would run on {session.get_providers()[0]}, not {wanted}"
        )
    return session
