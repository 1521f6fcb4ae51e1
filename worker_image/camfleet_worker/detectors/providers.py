"""What ONNX Runtime is told about the GPU: which of its providers to use, and how much memory they may take.

A GPU is shared by many workers, each a process of its own: a model's memory is capped and grown only as far
as it is needed, and convolutions are chosen by rule rather than by trying all, which takes seconds and
memory. TensorRT builds an engine per model, which takes minutes; it is kept on a volume.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Literal

Provider = Literal["auto", "cpu", "cuda", "tensorrt"]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
NAMES = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}
_ON = "True"
"""TensorRT's provider refuses 1."""
_MIB = 1024 * 1024
_HASH_DIGITS = 12
_TENSORRT_PACKAGES = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-libs")

Providers = list[tuple[str, dict[str, str]]]
"""In the order in which ONNX Runtime asks them to take a part of the model."""


def provider_options(wanted: str, *, memory_mib: int | None, engines: Path | None) -> Providers:
    """Providers for one model, the wanted one first.

    Args:
        wanted: ONNX Runtime's name of the provider.
        memory_mib: What the model may take of the GPU's memory; None for no cap.
        engines: Folder for the engines of this very model; None to keep none.
    """
    if wanted == CPU:
        return [(CPU, {})]
    cuda = {
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    if memory_mib:
        cuda["gpu_mem_limit"] = str(memory_mib * _MIB)
    if wanted == CUDA:
        return [(CUDA, cuda)]
    tensorrt = {"trt_fp16_enable": _ON}
    if memory_mib:
        tensorrt["trt_max_workspace_size"] = str(memory_mib * _MIB)
    if engines is not None:
        tensorrt |= {
            "trt_engine_cache_enable": _ON,
            "trt_engine_cache_path": str(engines),
            "trt_timing_cache_enable": _ON,
            "trt_timing_cache_path": str(engines),
        }
    # What TensorRT cannot take is run by CUDA, not by the CPU.
    return [(TENSORRT, tensorrt), (CUDA, cuda)]


def engine_folder(cache_dir: Path, model: Path, runtime: str) -> Path:
    """Where a model's engines are kept, below `cache_dir`.

    ONNX Runtime names an engine by the GPU's generation, the precision, and the graph's names and the file's,
    but neither by the weights nor by the version of TensorRT, which refuses another version's engine.

    Args:
        cache_dir: The volume.
        model: File of the model.
        runtime: What built the engine, as in `runtime_version`.
    """
    return cache_dir / runtime / f"{model.stem}-{short_hash(model)}"


@cache
def runtime_version() -> str:
    """Versions of ONNX Runtime and of TensorRT where it is a Python package, fit for a file name."""
    from importlib.metadata import PackageNotFoundError, version

    import onnxruntime

    found = ""
    for package in _TENSORRT_PACKAGES:
        try:
            found = f"-trt{version(package)}"
        except PackageNotFoundError:
            continue
        break
    return re.sub(r"[^A-Za-z0-9.+-]", "_", f"ort{onnxruntime.__version__}{found}")


@cache
def load_gpu_libraries() -> None:
    """Load CUDA's and cuDNN's libraries where they are Python packages, which the loader does not look at."""
    import onnxruntime

    load = getattr(onnxruntime, "preload_dlls", None)  # since 1.21
    if load is not None:
        with redirect_stdout(sys.stderr):  # where it tells what it misses
            load()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let one process at a time build engines in a folder that many mount; the others find them done.

    Raises:
        OSError: The folder cannot be written to.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def short_hash(model: Path) -> str:
    """First 12 hex digits of the SHA-256 of a model's file."""
    with model.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_HASH_DIGITS]


_GPU_FAULT = re.compile(
    r"\b(CUDA|CUDNN|cuDNN|CUBLAS|cuBLAS|CUFFT|NVRTC|TensorRT|TRT)\b.{0,40}\b(failure|error|failed)|cudaError[A-Z]",
    re.IGNORECASE,
)
_OUT_OF_ITS_CAP = "Failed to allocate memory for requested buffer"
"""By ONNX Runtime's arena: the cap is too small for the model, and would be after a restart."""


class GpuFaultError(Exception):
    """The GPU or its driver has failed under a running model: the process cannot use it any more."""


def is_gpu_fault(error: BaseException) -> bool:
    """Whether an error at run time means that this process has lost the GPU, so that only a new one helps."""
    text = str(error)
    return _OUT_OF_ITS_CAP not in text and _GPU_FAULT.search(text) is not None
