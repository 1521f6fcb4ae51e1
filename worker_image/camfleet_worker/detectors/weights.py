"""The weights of built-in detectors: which file of the model folder, and which version that is."""

from __future__ import annotations

from pathlib import Path

from camfleet_worker.detectors.base import DetectorContext, InferenceUnavailableError
from camfleet_worker.detectors.providers import short_hash


def find_weights(context: DetectorContext, patterns: tuple[str, ...], what: str) -> Path:
    """The first file of the model folder that fits the first pattern that any fits.

    Args:
        context: Says where the model folder is.
        patterns: File names, the preferred ones first; `*` stands for anything.
        what: What the weights are for, for people.

    Raises:
        InferenceUnavailableError: There is none.
    """
    folder = context.model_dir
    for pattern in patterns if folder is not None else ():
        for path in sorted(folder.glob(pattern)) if folder is not None else ():
            if path.is_file():
                return path
    raise InferenceUnavailableError(
        "ModelMissing", f"the {what}'s weights are not there: {' or '.join(patterns)} in the model folder"
    )


def identity_of(name: str, path: Path) -> str:
    """NAME@first 12 hex digits of the file's SHA-256."""
    return f"{name}@{short_hash(path)}"
