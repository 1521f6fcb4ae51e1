"""One faces process: the worker's own detector, alignment and embedding, spoken to over its pipes.

The gateway imports neither models nor vision libraries. Each message, both ways: u32 little-endian length of
the JSON, the JSON, u32 length of the payload, the payload. One request at a time.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from camfleet_gateway.people.problems import RefusedError

START_SECONDS = 60.0
"""A cold start reads the weights; on a busy machine that takes a while."""
MAX_ANSWER_BYTES = 8 * 1024 * 1024
_LENGTH = struct.Struct("<I")

_Fraction = Annotated[float, Field(allow_inf_nan=False)]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Quality(_Answer):
    """How good a face is for recognition; `score` sums it up, 0 to 1."""

    height_px: float = 0.0
    sharpness: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    score: float = 0.0


class FoundFace(_Answer):
    """One face of a picture."""

    box: tuple[_Fraction, _Fraction, _Fraction, _Fraction]
    """Left, top, width, height as fractions of the picture."""
    score: float = 0.0
    quality: Quality
    refused: str = ""
    """`TooSmall`, `Blurred`, `TurnedAway`; empty when it is good enough."""
    embedding: str = ""
    """Base64 of little-endian float16, of length 1."""
    crop: str = ""
    """Base64 of a JPEG: the face with a margin."""

    @property
    def area(self) -> float:
        """Fraction of the picture that it covers."""
        return max(self.box[2], 0.0) * max(self.box[3], 0.0)


class Analysis(_Answer):
    """What is in a picture; the largest face first."""

    width: int = 0
    height: int = 0
    faces: Annotated[tuple[FoundFace, ...], Field(max_length=100)] = ()


class Ready(_Answer):
    """What the process says of itself when it can begin."""

    embedder: Annotated[str, Field(min_length=1, max_length=128)]
    dimensions: Annotated[int, Field(ge=1, le=1536)]
    threshold: Annotated[float, Field(ge=-1, le=1)]
    margin: Annotated[float, Field(ge=0, le=2)] = 0.0


class ProcessLostError(Exception):
    """The process has ended, hangs or says nonsense; a new one may do better."""


@dataclass(frozen=True, slots=True)
class FaceCommand:
    """How the process is started."""

    model_dir: Path
    embedder: str
    threads: int = 1

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command line."""
        return (
            sys.executable,
            "-m",
            "camfleet_worker.faces_process",
            "--model-dir",
            str(self.model_dir),
            "--embedder",
            self.embedder,
            "--threads",
            str(self.threads),
        )


class FaceProcess:
    """A running process. Made by `start`."""

    def __init__(self, process: asyncio.subprocess.Process, ready: Ready) -> None:
        self._process = process
        self._requests = 0
        self.ready = ready

    @classmethod
    async def start(cls, command: FaceCommand) -> FaceProcess:
        """Start it and wait until it is ready.

        Raises:
            RefusedError: Weights are missing, or recognition is not installed here.
            ProcessLostError: It did not start.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *command.arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
        except OSError as error:
            raise ProcessLostError(f"it cannot be started: {error.strerror}") from None
        try:
            async with asyncio.timeout(START_SECONDS):
                said, _ = await _read(process)
        except (ProcessLostError, TimeoutError):
            await _end(process)
            raise ProcessLostError("it did not start") from None
        except BaseException:
            await _end(process)
            raise
        if not said.get("ready"):
            await _end(process)
            raise _not_ready(said.get("error"))
        try:
            return cls(process, Ready.model_validate(said))
        except ValidationError:
            await _end(process)
            raise ProcessLostError("it says nonsense") from None

    @property
    def alive(self) -> bool:
        """Whether it still runs, as far as is known."""
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def analyze(self, picture: bytes, *, max_faces: int, seconds: float) -> Analysis:
        """Find and embed the faces of a picture.

        Raises:
            RefusedError: It is not a picture that can be read.
            ProcessLostError: The process is of no use any more and has been ended.
        """
        self._requests += 1
        request = json.dumps({"id": self._requests, "op": "analyze", "max_faces": max_faces}).encode()
        try:
            async with asyncio.timeout(seconds):
                said = await self._exchange(request, picture)
        except TimeoutError:
            await self.stop()
            raise ProcessLostError(f"no answer within {seconds:g} s") from None
        except BaseException:
            await self.stop()
            raise
        if said.get("id") != self._requests:
            await self.stop()
            raise ProcessLostError("it answers what was not asked")
        if (problem := said.get("error")) is not None:
            raise _refused(problem)
        try:
            return Analysis.model_validate(said)
        except ValidationError:
            await self.stop()
            raise ProcessLostError("it says nonsense") from None

    async def _exchange(self, request: bytes, picture: bytes) -> dict[str, Any]:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(_LENGTH.pack(len(request)) + request + _LENGTH.pack(len(picture)))
            stdin.write(picture)
            await stdin.drain()
        except OSError:
            raise ProcessLostError("it has ended") from None
        said, _ = await _read(self._process)
        return said

    async def stop(self) -> None:
        """End it."""
        await _end(self._process)


async def _read(process: asyncio.subprocess.Process) -> tuple[dict[str, Any], bytes]:
    stdout = process.stdout
    assert stdout is not None
    try:
        text = await _part(stdout)
        payload = await _part(stdout)
        said = json.loads(text)
    except (asyncio.IncompleteReadError, OSError):
        raise ProcessLostError("it has ended") from None
    except ValueError:
        raise ProcessLostError("it says nonsense") from None
    if not isinstance(said, dict):
        raise ProcessLostError("it says nonsense")
    return said, payload


async def _part(stream: asyncio.StreamReader) -> bytes:
    (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
    if length > MAX_ANSWER_BYTES:
        raise ProcessLostError("it says too much")
    return await stream.readexactly(length) if length else b""


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close its input, which it ends at; kill it where that does not help."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(0.5):
            await process.wait()
            return
    except TimeoutError:
        pass
    if process.returncode is None:
        process.kill()
    await process.wait()


def _not_ready(problem: object) -> RefusedError:
    code, message = _problem(problem, "FacesUnavailable", "faces cannot be analysed here")
    return RefusedError(code, message, status=503)


def _refused(problem: object) -> RefusedError:
    code, message = _problem(problem, "NotAPicture", "this is not a picture that can be read")
    return RefusedError(code, message, status=413 if code == "TooLarge" else 422)


def _problem(problem: object, code: str, message: str) -> tuple[str, str]:
    if not isinstance(problem, dict):
        return code, message
    return str(problem.get("code") or code)[:64], str(problem.get("message") or message)[:512]
