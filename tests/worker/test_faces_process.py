"""The real process that finds faces for the gateway, given good pictures and everything else."""

from __future__ import annotations

import base64
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from support.require import model_dir, sample

MOST_MEMORY = 700 * 1024 * 1024
"""Measured: 580 MB; what 50 megapixels take."""


class FacesProcess:
    """One process, asked as the gateway asks it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "camfleet_worker.faces_process", "--model-dir", str(folder), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._number = 0
        self.ready = self.read()

    def ask(self, picture: bytes, **fields: Any) -> dict[str, Any]:
        self._number += 1
        request = {"id": self._number, "op": "analyze", "max_faces": 20, **fields}
        answer = self.send(json.dumps(request).encode(), picture)
        assert answer["id"] == request["id"]
        return answer

    def send(self, text: bytes, picture: bytes) -> dict[str, Any]:
        assert self._process.stdin is not None
        for part in (text, picture):
            self._process.stdin.write(struct.pack("<I", len(part)))
            self._process.stdin.write(part)
        self._process.stdin.flush()
        return self.read()

    def read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        (length,) = struct.unpack("<I", self._process.stdout.read(4))
        message: dict[str, Any] = json.loads(self._process.stdout.read(length))
        assert self._process.stdout.read(4) == bytes(4), "answers have no payload"
        return message

    def most_memory(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def end(self) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        code = self._process.wait(60)
        self._process.stdout.close()
        return code


@pytest.fixture(scope="module")
def process() -> Iterator[FacesProcess]:
    made = FacesProcess(model_dir())
    yield made
    assert made.end() == 0


def portrait() -> bytes:
    return sample("people/obama.jpg").read_bytes()


def pixels() -> np.ndarray:
    image = cv2.imread(str(sample("people/obama.jpg")))
    assert image is not None
    return image


def coded(kind: str, image: np.ndarray, *options: int) -> bytes:
    done, data = cv2.imencode(kind, image, list(options))
    assert done
    return data.tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, *, depth: int = 8, color: int = 2, rows: bytes = b"", extra: bytes = b""
) -> bytes:
    """A PNG that may lie about itself."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    )


def turned(data: bytes, orientation: int) -> bytes:
    """A JPEG with an orientation in its EXIF."""
    tiff = b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x0112, 3, 1, orientation) + bytes(4)
    segment = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def test_it_says_first_what_it_is(process: FacesProcess) -> None:
    assert process.ready == {
        "ready": True,
        "embedder": "mobilefacenet@b7120c095d60",
        "dimensions": 128,
        "threshold": 0.45,
        "margin": 0.05,
    }


def test_a_portrait(process: FacesProcess) -> None:
    answer = process.ask(portrait())
    assert (answer["width"], answer["height"]) == (910, 1137)
    (face,) = answer["faces"]
    left, top, width, height = face["box"]
    assert 0.35 < left + width / 2 < 0.65 and 0.2 < height < 0.4
    assert all(left < x < left + width and top < y < top + height for x, y in face["landmarks"])
    assert face["refused"] == "" and face["score"] > 0.9 and face["quality"]["height_px"] > 300
    vector = np.frombuffer(base64.b64decode(face["embedding"]), "<f2").astype(np.float32)
    assert vector.shape == (128,) and np.linalg.norm(vector) == pytest.approx(1, abs=2e-3)
    crop = base64.b64decode(face["crop"])
    shown = cv2.imdecode(np.frombuffer(crop, np.uint8), cv2.IMREAD_COLOR)
    assert len(crop) <= 64 * 1024 and shown is not None and max(shown.shape) <= 320


def test_the_largest_face_comes_first_and_only_as_many_as_asked_for(process: FacesProcess) -> None:
    picture = sample("people/obama_and_biden.jpg").read_bytes()
    heights = [face["quality"]["height_px"] for face in process.ask(picture)["faces"]]
    assert len(heights) == 3 and heights == sorted(heights, reverse=True)
    assert len(process.ask(picture, max_faces=1)["faces"]) == 1


def small(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (300, 375), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: coded(".png", small(pixels())), id="png"),
        pytest.param(lambda: coded(".webp", small(pixels()), cv2.IMWRITE_WEBP_QUALITY, 80), id="webp"),
        pytest.param(lambda: coded(".jpg", cv2.cvtColor(small(pixels()), cv2.COLOR_BGR2GRAY)), id="grey"),
        pytest.param(lambda: coded(".png", cv2.cvtColor(small(pixels()), cv2.COLOR_BGR2BGRA)), id="alpha"),
        pytest.param(lambda: coded(".png", small(pixels()).astype(np.uint16) * 257), id="16 bits"),
        pytest.param(lambda: turned(coded(".jpg", np.rot90(small(pixels())).copy()), 6), id="lying, by EXIF"),
        pytest.param(
            lambda: turned(coded(".jpg", np.rot90(small(pixels()), 2).copy()), 3), id="upside down, by EXIF"
        ),
        pytest.param(lambda: coded(".jpg", small(pixels())) + b"\0" * 1000, id="something after its end"),
    ],
)
def test_every_sane_picture_is_taken(process: FacesProcess, make: Any) -> None:
    answer = process.ask(make())
    assert (answer["width"], answer["height"]) == (300, 375), answer
    (face,) = answer["faces"]
    assert face["quality"]["height_px"] == pytest.approx(110, abs=12) and abs(face["quality"]["roll"]) < 10


HOSTILE = {
    "empty": (lambda: b"", "NotAPicture"),
    "garbage": (lambda: os.urandom(5000), "NotAPicture"),
    "text": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "NotAPicture"),
    "GIF": (lambda: b"GIF89a" + bytes(200), "NotAPicture"),
    "two bytes of JPEG": (lambda: b"\xff\xd8", "Truncated"),
    "half a JPEG": (lambda: portrait()[: len(portrait()) // 2], "Truncated"),
    "JPEG of nothing": (lambda: b"\xff\xd8\xff\xd9", "NotAPicture"),
    "JPEG of noise": (lambda: b"\xff\xd8" + bytes(4000) + b"\xff\xd9", "NotAPicture"),
    "JPEG of endless fill": (lambda: b"\xff\xd8" + b"\xff" * 100_000, "Truncated"),
    "half a PNG": (lambda: coded(".png", small(pixels()))[:9000], "Truncated"),
    "half a WebP": (lambda: coded(".webp", small(pixels()))[:3000], "Truncated"),
    "PNG without pixels": (lambda: png(7000, 7000, rows=b"abc"), "NotAPicture"),
    "PNG 0 x 0": (lambda: png(0, 0), "NotAPicture"),
    "PNG bomb": (lambda: png(60_000, 60_000), "TooLarge"),
    "PNG as wide as can be": (lambda: png(2**31 - 1, 1), "TooLarge"),
    "animated PNG": (
        lambda: png(8, 8, rows=bytes(8 * 25), extra=chunk(b"acTL", struct.pack(">II", 2, 0))),
        "Animated",
    ),
    "animated WebP": (
        lambda: b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02" + bytes(9),
        "Animated",
    ),
    "JPEG of a thousand scans": (lambda: scans(1000), "TooLarge"),
    "21 MiB": (lambda: b"\xff\xd8" + bytes(21 * 2**20), "TooLarge"),
}


def scans(count: int) -> bytes:
    data = coded(".jpg", small(pixels()), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    last = data.rfind(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_good_picture_is_an_answer_and_not_the_end(process: FacesProcess, name: str) -> None:
    make, code = HOSTILE[name]
    answer = process.ask(make())
    assert answer["error"]["code"] == code, answer
    assert answer["error"]["message"]
    assert "faces" not in answer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"", None),
        (b"{", None),
        (b"[" * 60_000, None),
        (b"[1]", None),
        (b'{"id": 7}', 7),
        (b'{"id": 7, "op": "erase"}', 7),
        (b'{"id": 7, "op": "analyze", "max_faces": 0}', 7),
        (b'{"id": "x", "op": "analyze"}', None),
        (b'{"id": 1e400, "op": "analyze"}', None),
        (b" " * 100_000 + b'{"id": 7, "op": "analyze"}', None),
    ],
)
def test_a_request_that_is_none_is_an_answer(process: FacesProcess, text: bytes, number: int | None) -> None:
    answer = process.send(text, b"abc")
    assert answer["id"] == number and answer["error"]["code"] == "BadRequest"


def test_the_largest_pictures_stay_within_bounds(process: FacesProcess) -> None:
    rows = bytes(1 + 7000 * 8) * 7000
    answer = process.ask(png(7000, 7000, depth=16, color=6, rows=rows))
    assert answer["faces"] == [] and (answer["width"], answer["height"]) == (7000, 7000)
    large = cv2.resize(pixels(), (6000, 7500), interpolation=cv2.INTER_NEAREST)
    answer = process.ask(coded(".jpg", large))
    assert (answer["width"], answer["height"]) == (3000, 3750) and len(answer["faces"]) >= 1
    assert process.most_memory() < MOST_MEMORY
    assert len(process.ask(portrait())["faces"]) == 1


def test_missing_weights_are_told_and_end_it(tmp_path: Path) -> None:
    ended = FacesProcess(tmp_path)
    assert ended.ready["ready"] is False and ended.ready["error"]["code"] == "ModelMissing"
    assert "mobilefacenet.onnx" in ended.ready["error"]["message"]
    assert ended.end() == 3


def test_it_ends_where_its_input_ends_also_within_a_message() -> None:
    process = FacesProcess(model_dir())
    assert process._process.stdin is not None
    process._process.stdin.write(struct.pack("<I", 100) + b"{")
    assert process.end() == 0
