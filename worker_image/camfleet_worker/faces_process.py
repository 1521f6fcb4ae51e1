"""Finds and embeds the faces of pictures, for the gateway: a process of its own, without a port.

    python -m camfleet_worker.faces_process --model-dir DIR [--embedder NAME] [--threads N]

Pictures come from whoever may enrol people, and are decoded here by libraries written in C: what goes wrong
with one ends this process at worst, never the gateway. It speaks on standard input and output. A message is
a 32-bit little-endian length and so many bytes of JSON, a length and so many bytes of payload. It says first
that it is ready, or why not (and exits with 3); then it answers requests one by one, until its input ends.

    ready     {"ready": true, "embedder", "dimensions", "threshold", "margin"}
    request   {"id", "op": "analyze", "max_faces": 20}, the picture: JPEG, PNG or WebP
    answer    {"id", "width", "height", "faces": [{"box", "landmarks", "score", "quality", "refused",
              "embedding", "crop"}]}, the largest face first, or {"id", "error": {"code", "message"}}
"""

from __future__ import annotations

import argparse
import base64
import json
import logging
import os
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

if TYPE_CHECKING:
    from camfleet_worker.picture import Image
    from camfleet_worker.recognition.faces import AnalyzedFace, FaceAnalyzer

NOT_READY = 3
MAX_JSON_BYTES = 64 * 1024
MAX_CROP_BYTES = 64 * 1024
_LENGTH = struct.Struct("<I")
_CHUNK = 1024 * 1024
_CROP_MARGIN = 0.35
_CROP_SIDE = 320
_CROP_QUALITIES = (88, 75, 60, 40)

logger = logging.getLogger(__name__)


class Request(BaseModel):
    """What may be asked."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    id: Annotated[int, Field(ge=0, lt=2**53)]
    op: Literal["analyze"]
    max_faces: Annotated[int, Field(ge=1, le=100)] = 20


class InputEndedError(Exception):
    """Standard input ended, in order or within a message."""


def main(arguments: list[str] | None = None) -> int:
    """Answer until the input ends; the exit code."""
    parser = argparse.ArgumentParser(prog="camfleet_worker.faces_process")
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--embedder", default="mobilefacenet")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(options.threads))
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    source, sink = _own_channel()

    from camfleet_worker.detectors.base import DetectorContext, InferenceUnavailableError
    from camfleet_worker.vision import prepare_opencv

    prepare_opencv(options.threads)
    from camfleet_worker.recognition.faces import FaceAnalyzer

    context = DetectorContext(options.model_dir, threads=options.threads)
    try:
        analyzer = FaceAnalyzer(context, options.embedder)
    except InferenceUnavailableError as error:
        _write(sink, {"ready": False, "error": {"code": error.reason, "message": str(error)}})
        return NOT_READY
    embedder = analyzer.embedder
    _write(
        sink,
        {
            "ready": True,
            "embedder": embedder.identity,
            "dimensions": embedder.dimensions,
            "threshold": embedder.threshold,
            "margin": embedder.margin,
        },
    )
    while True:
        try:
            text, picture = _read(source, MAX_JSON_BYTES), _read(source, _max_picture())
        except InputEndedError:
            return 0
        _write(sink, _answer(analyzer, text, picture))


def _own_channel() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for messages only: what a library prints goes to standard error."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, sink


def _max_picture() -> int:
    from camfleet_worker.recognition.pictures import MAX_BYTES

    return MAX_BYTES


def _read(source: BinaryIO, limit: int) -> bytes | None:
    """One part of a message; None if it is longer than `limit`: then it is read and thrown away."""
    (length,) = _LENGTH.unpack(_exactly(source, _LENGTH.size))
    if length <= limit:
        return _exactly(source, length)
    while length:
        length -= len(_exactly(source, min(length, _CHUNK)))
    return None


def _exactly(source: BinaryIO, length: int) -> bytes:
    data = source.read(length)
    if len(data) < length:
        raise InputEndedError
    return data


def _write(sink: BinaryIO, message: dict[str, Any]) -> None:
    text = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    sink.write(_LENGTH.pack(len(text)) + text + _LENGTH.pack(0))
    sink.flush()


def _answer(analyzer: FaceAnalyzer, text: bytes | None, picture: bytes | None) -> dict[str, Any]:
    from camfleet_worker.recognition.pictures import MAX_BYTES, PictureError, decode

    number: int | None = None
    try:
        request = Request.model_validate_json(text if text is not None else b"")
        number = request.id
        if picture is None:
            raise PictureError("TooLarge", f"a picture of more than {MAX_BYTES} bytes")
        image = decode(picture)
        found = analyzer.analyze(image, max_faces=request.max_faces)
        height, width = image.shape[:2]
        return {
            "id": number,
            "width": width,
            "height": height,
            "faces": [_face(image, face) for face in found],
        }
    except ValidationError:
        return _error(_id_of(text), "BadRequest", "not a request that is known here")
    except PictureError as error:
        return _error(number, error.code, str(error))
    except MemoryError:
        return _error(number, "TooLarge", "the picture needs too much memory")
    except Exception as error:  # those of OpenCV and ONNX Runtime have no common base but this
        logger.exception("a picture could not be analysed")
        return _error(number, "AnalysisFailed", f"the picture cannot be analysed: {type(error).__name__}")


def _error(number: int | None, code: str, message: str) -> dict[str, Any]:
    return {"id": number, "error": {"code": code, "message": message}}


def _id_of(text: bytes | None) -> int | None:
    """The id of a request that is wrong otherwise, if it has one."""
    try:
        value = json.loads(text or b"")
    except (ValueError, RecursionError):
        return None
    number = value.get("id") if isinstance(value, dict) else None
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def _face(image: Image, face: AnalyzedFace) -> dict[str, Any]:
    from camfleet_worker.recognition.quality import ENROLMENT_LIMITS, refuse

    height, width = image.shape[:2]
    left, top, across, down = face.box_px
    return {
        "box": [
            _unit(left / width),
            _unit(top / height),
            _unit((min(left + across, width) - max(0, left)) / width),
            _unit((min(top + down, height) - max(0, top)) / height),
        ],
        "landmarks": [[_unit(float(x) / width), _unit(float(y) / height)] for x, y in face.landmarks_px],
        "score": round(face.score, 4),
        "quality": {
            "height_px": round(face.quality.height_px, 1),
            "sharpness": round(face.quality.sharpness, 4),
            "yaw": round(face.quality.yaw, 1),
            "pitch": round(face.quality.pitch, 1),
            "roll": round(face.quality.roll, 1),
            "score": round(face.quality.score, 4),
        },
        "refused": refuse(face.quality, ENROLMENT_LIMITS) or "",
        "embedding": base64.b64encode(face.embedding.astype("<f2").tobytes()).decode(),
        "crop": base64.b64encode(_crop(image, face.box_px)).decode(),
    }


def _unit(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 5)


def _crop(image: Image, box: tuple[float, float, float, float]) -> bytes:
    """The face and a little around it, JPEG."""
    import cv2

    left, top, across, down = box
    height, width = image.shape[:2]
    x0, y0 = (int(max(0, value)) for value in (left - _CROP_MARGIN * across, top - _CROP_MARGIN * down))
    x1 = int(min(width, left + across * (1 + _CROP_MARGIN))) + 1
    y1 = int(min(height, top + down * (1 + _CROP_MARGIN))) + 1
    cut = image[y0:y1, x0:x1]
    factor = _CROP_SIDE / max(cut.shape[:2])
    if factor < 1:
        size = (max(1, round(cut.shape[1] * factor)), max(1, round(cut.shape[0] * factor)))
        cut = cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
    for quality in _CROP_QUALITIES:
        done, coded = cv2.imencode(".jpg", cut, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if done and len(coded) <= MAX_CROP_BYTES:
            return coded.tobytes()
    return b""


if __name__ == "__main__":
    sys.exit(main())
