"""Packs of insightface, for those who may use them: a folder of .onnx files in the model folder.

Imported only when such a folder is asked for by name: importing insightface takes a second and 50 MB. It
never downloads anything here, since only files that exist are named to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from camfleet_worker.detectors.base import DetectorContext, InferenceUnavailableError
from camfleet_worker.detectors.providers import NAMES as PROVIDERS
from camfleet_worker.detectors.weights import identity_of
from camfleet_worker.log import get_logger
from camfleet_worker.picture import Image
from camfleet_worker.recognition.align import SIZE
from camfleet_worker.recognition.embedder import (
    BLANK,
    EmbedderCard,
    Embeddings,
    embed_in_batches,
    fixed_batch,
    read_card,
)

logger = get_logger(__name__)

_RECOGNITION = "recognition"


class PackEmbedder:
    """The recognition model of a pack."""

    def __init__(self, name: str, path: Path, model: Any, card: EmbedderCard) -> None:
        self.identity = identity_of(name, path)
        self.threshold = card.threshold
        self.margin = card.margin
        self._model = model
        self._batch = fixed_batch(model.input_shape)
        self.dimensions = int(np.asarray(self._run([BLANK] * (self._batch or 1))).shape[1])

    def embed(self, aligned: Sequence[Image]) -> Embeddings:
        """Embed faces as `align_face` makes them; none give an array of no rows."""
        return embed_in_batches(aligned, self._batch, self.dimensions, self._run)

    def _run(self, faces: Sequence[Image]) -> Any:
        size = tuple(self._model.input_size)
        return self._model.get_feat(
            [face if size == (SIZE, SIZE) else cv2.resize(face, size) for face in faces]
        )


def load_pack(name: str, folder: Path, context: DetectorContext) -> PackEmbedder:
    """Load the recognition model of a pack by insightface's own API.

    Raises:
        InferenceUnavailableError: insightface is not installed, or the pack has no recognition model.
    """
    try:
        import onnxruntime as ort

        get_model = import_module("insightface.model_zoo").get_model
    except ImportError as error:
        raise InferenceUnavailableError(
            "EmbedderMissing", f"{name} is a pack of insightface, which is not installed: {error.name}"
        ) from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = context.threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    wanted = PROVIDERS["cpu" if context.provider == "auto" else context.provider]
    for path in sorted(folder.glob("*.onnx")):
        try:
            model = get_model(str(path), providers=[wanted], sess_options=options)
        except Exception as error:  # a file in a pack may be anything, and insightface raises anything
            raise InferenceUnavailableError(
                "ModelInvalid", f"{path.name} cannot be loaded: {error}"
            ) from error
        if getattr(model, "taskname", "") == _RECOGNITION:
            logger.warning(
                "%s is a pack of insightface: its weights are licensed for non-commercial research only", name
            )
            card = read_card(folder / f"{name}.json") or read_card(folder.with_name(f"{name}.json"))
            return PackEmbedder(name, path, model, card or EmbedderCard())
    raise InferenceUnavailableError("ModelMissing", f"no file of the pack {name} is a recognition model")
