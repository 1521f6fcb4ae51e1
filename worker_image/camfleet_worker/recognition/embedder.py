"""From an aligned face to a vector: models are files in the model folder.

`NAME.onnx` is any model of ArcFace's kind: one picture 112 x 112 in, one vector out. `NAME.json` beside it
says how it wants its pixels and what its similarities mean (`EmbedderCard`); without one, what is usual is
assumed, and `mobilefacenet` has its own card here. A folder `NAME/` is a pack of insightface, loaded by
insightface itself, which is imported only then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from camfleet_worker.detectors.base import DetectorContext, InferenceUnavailableError
from camfleet_worker.detectors.session import make_session
from camfleet_worker.detectors.weights import identity_of
from camfleet_worker.log import get_logger
from camfleet_worker.picture import Image
from camfleet_worker.recognition.align import SIZE

logger = get_logger(__name__)

Embeddings = NDArray[np.float32]
"""n x dimensions, rows of length 1; the similarity of two faces is the product of their rows, -1 to 1."""

MAX_DIMENSIONS = 1536
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MAX_CARD_BYTES = 64 * 1024
_MAX_BATCH = 16
_TINY = 1e-12
BLANK: Image = np.zeros((SIZE, SIZE, 3), np.uint8)

Positive = Annotated[float, Field(gt=0)]
Channels = Annotated[tuple[float, ...], Field(min_length=3, max_length=3)]


class EmbedderCard(BaseModel):
    """How a model wants its pixels, which is (pixel - mean) / std with pixels 0 to 255, and its thresholds.

    Attributes:
        mean: One value, or one per channel in the order of `color`.
        std: The same.
        color: Order of the channels.
        threshold: Similarity from which two faces are of one person.
        margin: How much the best person must be ahead of the next one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    mean: float | Channels = 127.5
    std: Positive | Annotated[tuple[Positive, ...], Field(min_length=3, max_length=3)] = 127.5
    color: Literal["rgb", "bgr"] = "rgb"
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.45
    margin: Annotated[float, Field(ge=0, le=1)] = 0.05


MOBILEFACENET = EmbedderCard(
    mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), color="rgb", threshold=0.45, margin=0.05
)
"""Pixels as in the model's training: RGB, mean and deviation of ImageNet. Thresholds: docs/recognition.md."""
_KNOWN = {"mobilefacenet": MOBILEFACENET}


class Embedder(Protocol):
    """Makes vectors of faces. Any thread may use it.

    Attributes:
        identity: NAME@first 12 hex digits of the SHA-256 of the weights. Vectors of different identities have
            nothing to do with each other.
        dimensions: Length of a vector.
        threshold: The model's own similarity from which two faces are of one person.
        margin: The model's own lead that the best person must have over the next one.
    """

    identity: str
    dimensions: int
    threshold: float
    margin: float

    def embed(self, aligned: Sequence[Image]) -> Embeddings:
        """Embed faces as `align_face` makes them; none give an array of no rows."""


def load_embedder(name: str, context: DetectorContext) -> Embedder:
    """Load a model of the model folder by its name.

    Raises:
        InferenceUnavailableError: There is none of this name, or it cannot be used.
    """
    if not _NAME.fullmatch(name):
        raise InferenceUnavailableError("ModelMissing", f"{name!r} is no name of a model")
    folder = context.model_dir
    if folder is not None and (folder / f"{name}.onnx").is_file():
        return OnnxEmbedder(name, folder / f"{name}.onnx", context)
    if folder is not None and (folder / name).is_dir():
        from camfleet_worker.recognition.insightface_pack import load_pack

        return load_pack(name, folder / name, context)
    raise InferenceUnavailableError(
        "ModelMissing", f"the face embedder's weights are not there: {name}.onnx in the model folder"
    )


class OnnxEmbedder:
    """A model of ArcFace's kind on ONNX Runtime."""

    def __init__(self, name: str, path: Path, context: DetectorContext) -> None:
        card = read_card(path.with_suffix(".json")) or _KNOWN.get(name, EmbedderCard())
        self.identity = identity_of(name, path)
        self.threshold = card.threshold
        self.margin = card.margin
        self._session = make_session(path, context)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or list(shape[1:]) != [3, SIZE, SIZE]:
            raise InferenceUnavailableError(
                "ModelInvalid", f"{path.name} takes {shape}, not one picture 3 x {SIZE} x {SIZE}"
            )
        self._batch = fixed_batch(shape)
        self._input, self._output = inputs[0].name, outputs[0].name
        self._swap = card.color == "rgb"
        mean, std = (np.asarray(value, np.float32) for value in (card.mean, card.std))
        self._factor, self._offset = 1 / std, -mean / std
        self.dimensions = self._measure(path)

    def embed(self, aligned: Sequence[Image]) -> Embeddings:
        """Embed faces as `align_face` makes them; none give an array of no rows."""
        return embed_in_batches(aligned, self._batch, self.dimensions, self._run)

    def _run(self, faces: Sequence[Image]) -> Any:
        blob = np.empty((len(faces), 3, SIZE, SIZE), np.float32)
        for row, face in zip(blob, faces, strict=True):
            image = cv2.cvtColor(face, cv2.COLOR_BGR2RGB) if self._swap else face
            row[:] = (image * self._factor + self._offset).transpose(2, 0, 1)
        return self._session.run([self._output], {self._input: blob})[0]

    def _measure(self, path: Path) -> int:
        """How long the vectors are; the file need not say, and a wrong kind of model shows itself here."""
        try:
            found = np.asarray(self._run([BLANK] * (self._batch or 1)))
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this
            raise InferenceUnavailableError("ModelInvalid", f"{path.name} does not run: {error}") from error
        if found.ndim != 2 or not 1 < found.shape[1] <= MAX_DIMENSIONS:
            raise InferenceUnavailableError(
                "ModelInvalid", f"{path.name} gives an array of {found.shape}, not one vector a face"
            )
        return int(found.shape[1])


def fixed_batch(shape: Sequence[Any]) -> int | None:
    """How many faces a model takes at once; None if it leaves that open."""
    return shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None


def embed_in_batches(
    aligned: Sequence[Image], fixed: int | None, dimensions: int, run: Callable[[Sequence[Image]], Any]
) -> Embeddings:
    """Run a model over faces, and bring each vector to length 1."""
    vectors: Embeddings = np.zeros((len(aligned), dimensions), np.float32)
    step = fixed or _MAX_BATCH
    for start in range(0, len(aligned), step):
        faces = list(aligned[start : start + step])
        missing = fixed - len(faces) if fixed else 0
        vectors[start : start + step] = run(faces + [BLANK] * missing)[: len(faces)]
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)
    return vectors


def read_card(path: Path) -> EmbedderCard | None:
    """The card beside a model, None if there is none.

    Raises:
        InferenceUnavailableError: There is one, but it is wrong.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_CARD_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InferenceUnavailableError(
            "ModelInvalid", f"{path.name} cannot be read: {error.strerror}"
        ) from None
    try:
        return EmbedderCard.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InferenceUnavailableError("ModelInvalid", f"{path.name}: {where} {first['msg']}") from None
