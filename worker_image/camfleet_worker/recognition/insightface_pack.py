"""Packs of insightface, for those who may use them: a folder of .onnx files in the model folder.

Imported only when such a folder is asked for by name: importing insightface takes a second and 50 MB. It
gets one file, the recognition model, in a session of ours: so it downloads nothing, loads no other model of
the pack, and runs where it is told to.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from camfleet_worker.detectors.base import DetectorContext, InferenceUnavailableError
from camfleet_worker.detectors.session import make_session
from camfleet_worker.detectors.weights import identity_of
from camfleet_worker.log import get_logger
from camfleet_worker.picture import Image
from camfleet_worker.recognition.align import SIZE
from camfleet_worker.recognition.embedder import (
    BLANK,
    MAX_DIMENSIONS,
    EmbedderCard,
    Embeddings,
    embed_in_batches,
    fixed_batch,
    read_card,
)

logger = get_logger(__name__)

_LIKELY = ("w600k", "glint", "ms1mv", "webface", "arcface")


class PackEmbedder:
    """The recognition model of a pack."""

    def __init__(self, name: str, path: Path, model: Any, card: EmbedderCard) -> None:
        self.identity = identity_of(name, path)
        self.threshold = card.threshold
        self.margin = card.margin
        self._model = model
        self._batch = fixed_batch(model.input_shape)
        found = np.asarray(self._run([BLANK] * (self._batch or 1)))
        if found.ndim != 2 or not 1 < found.shape[1] <= MAX_DIMENSIONS:
            raise ValueError(f"it gives an array of {found.shape}, not one vector a face")
        self.dimensions = int(found.shape[1])

    def embed(self, aligned: Sequence[Image]) -> Embeddings:
        """Embed faces as `align_face` makes them; none give an array of no rows."""
        return embed_in_batches(aligned, self._batch, self.dimensions, self._run)

    def _run(self, faces: Sequence[Image]) -> Any:
        size = tuple(self._model.input_size)
        return self._model.get_feat(
            [face if size == (SIZE, SIZE) else cv2.resize(face, size) for face in faces]
        )


def load_pack(name: str, folder: Path, context: DetectorContext) -> PackEmbedder:
    """Load the recognition model of a pack for insightface, and nothing else of it.

    Raises:
        InferenceUnavailableError: insightface is not installed, the pack has no recognition model, or that
            does not run where it is told to.
    """
    try:
        arcface = import_module("insightface.model_zoo.arcface_onnx").ArcFaceONNX
    except ImportError as error:
        raise InferenceUnavailableError(
            "EmbedderMissing", f"{name} is a pack of insightface, which is not installed: {error.name}"
        ) from error
    path = next((path for path in _likely_first(folder) if _is_recognition(path)), None)
    if path is None:
        raise InferenceUnavailableError("ModelMissing", f"no file of the pack {name} is a recognition model")
    card = read_card(folder / f"{name}.json") or read_card(folder.with_name(f"{name}.json"))
    # Left to itself, insightface would go on with the CPU where the GPU cannot be used.
    session = make_session(path, context)
    try:
        model = arcface(model_file=str(path), session=session)
        pack = PackEmbedder(name, path, model, card or EmbedderCard())
    except Exception as error:  # insightface and ONNX Runtime raise anything
        raise InferenceUnavailableError("ModelInvalid", f"{path.name} cannot be used: {error}") from error
    logger.warning(
        "%s is a pack of insightface: its weights are licensed for non-commercial research only", name
    )
    return pack


def _likely_first(folder: Path) -> list[Path]:
    """The files of a pack, those first that are named like recognition models: all are large."""
    return sorted(folder.glob("*.onnx"), key=lambda path: (not path.name.startswith(_LIKELY), path.name))


def _is_recognition(path: Path) -> bool:
    """Whether a file is what insightface takes for a recognition model; it is read, not made ready to run.

    Raises:
        InferenceUnavailableError: It is no model.
    """
    onnx = import_module("onnx")
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # a file in a pack may be anything
        raise InferenceUnavailableError("ModelInvalid", f"{path.name} cannot be loaded: {error}") from error
    weights = {each.name for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in weights]
    if len(inputs) != 1 or len(graph.output) != 1:
        return False
    shape = [each.dim_value for each in inputs[0].type.tensor_type.shape.dim]
    vector = len(graph.output[0].type.tensor_type.shape.dim) in (0, 2)  # 0: it does not say
    # Not 192, which is a model of landmarks; nor 96, one of age.
    square = len(shape) == 4 and shape[2] == shape[3] != 192 and shape[2] >= SIZE and shape[2] % 16 == 0
    return vector and square
