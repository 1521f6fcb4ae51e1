"""Video through FFmpeg: files at their own pace, and RTSP.

Only packets are decoded here; pixels are converted by whoever takes a picture, straight to the size wanted
(`VideoPicture`). FFmpeg logs nothing: its lines carry URLs with passwords and bypass the redaction.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from camfleet_protocol.camera import FileSource, RtspSource
from camfleet_worker.faults import Fault, SourceError, classify
from camfleet_worker.picture import Image, Picture
from camfleet_worker.sources.base import OPEN_TIMEOUT, SourceContext
from camfleet_worker.sources.credentials import join_url, read_credentials

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

_FILE_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,h264,hevc,ivf,mjpeg,gif"
)
"""Playlists and text are not among them: a file must not name other files or addresses to read."""
_LATE_SECONDS = 0.5
_MAX_GAP_SECONDS = 10.0
_MAX_BAD_PACKETS = 250
_FINGERPRINT_LINES = 128
_NEARLY = 0.9
"""Of a timeout: whatever fails after that failed because of it."""
_FULL_RANGE = 2
"""AVCOL_RANGE_JPEG."""
_local = threading.local()


class VideoPicture(Picture):
    """A decoded frame that keeps FFmpeg's buffer until its pixels are wanted."""

    def __init__(self, frame: av.VideoFrame, *, number: int, captured_ns: int, discontinuity: bool) -> None:
        super().__init__(
            number=number,
            captured_ns=captured_ns,
            width=frame.width,
            height=frame.height,
            discontinuity=discontinuity,
        )
        self._frame = frame

    def fingerprint(self) -> int | None:
        """CRC-32 of about 128 lines of the first plane: brightness, in what cameras send."""
        plane, form = self._frame.planes[0], self._frame.format
        bits = form.components[0].bits if form.is_planar else form.padded_bits_per_pixel
        # What lies beyond a line's pixels is padding, and may hold anything.
        length = min(plane.line_size, plane.width * ((bits + 7) // 8))
        samples, checksum = memoryview(plane), 0
        for line in range(0, plane.height, max(1, plane.height // _FINGERPRINT_LINES)):
            start = line * plane.line_size
            checksum = zlib.crc32(samples[start : start + length], checksum)
        return checksum

    def _convert(self, width: int, height: int) -> Image:
        # A reformatter keeps its scaling context; a frame's own one would build it anew each time.
        reformatters = _local.__dict__.setdefault("reformatters", {})
        reformatter = reformatters.get((width, height))
        if reformatter is None:
            from av.video.reformatter import VideoReformatter

            if len(reformatters) >= 4:
                reformatters.clear()
            reformatter = reformatters[width, height] = VideoReformatter()
        scaled = reformatter.reformat(
            self._frame, width=width, height=height, format="bgr24", interpolation="AREA", threads=1
        )
        return scaled.to_ndarray()

    def _convert_part(self, left: int, top: int, right: int, bottom: int) -> Image | None:
        frame = self._frame
        full = frame.format.name == "yuvj420p" or int(frame.color_range) == _FULL_RANGE
        if frame.format.name not in ("yuv420p", "yuvj420p") or right % 2 or bottom % 2:
            return None
        import cv2
        import numpy as np

        width, height = right - left, bottom - top
        planes = np.empty((height * 3 // 2, width), np.uint8)
        planes[:height] = _plane(frame.planes[0])[top:bottom, left:right]
        half = slice(top // 2, bottom // 2), slice(left // 2, right // 2)
        colours = planes[height:].reshape(2, height // 2, width // 2)
        colours[0] = _plane(frame.planes[1])[half]
        colours[1] = _plane(frame.planes[2])[half]
        if full:
            # OpenCV knows the narrow range only.
            levels = np.arange(256)
            planes[:height] = (16 + levels * 219 / 255).astype(np.uint8)[planes[:height]]
            planes[height:] = (128 + (levels - 128) * 224 / 255).astype(np.uint8)[planes[height:]]
        return cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)


def _plane(plane: Any) -> Any:
    """The samples of a plane, one line a row, without copying them."""
    import numpy as np

    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)


class _Video:
    """What files and streams have in common."""

    network = False

    def __init__(self, context: SourceContext) -> None:
        self.codec = ""
        self._context = context
        self._container: InputContainer | None = None
        self._packets: Iterator[av.Packet[Any]] | None = None
        self._frames: list[av.VideoFrame] = []
        self._stream: VideoStream | None = None
        self._number = 0
        self._bad_packets = 0
        self._discontinuity = True

    def _open(self, url: str, options: dict[str, str]) -> None:
        import av
        import av.logging

        av.logging.set_level(None)
        self._number = 0
        self._discontinuity = True
        began = time.monotonic()
        try:
            self._container = container = av.open(
                url, options=options, timeout=(OPEN_TIMEOUT, self._context.read_timeout)
            )
            if not container.streams.video:
                raise SourceError(Fault.INVALID, "there is no video in it")
            self._stream = stream = container.streams.video[0]
            codec = stream.codec_context
            codec.thread_count = self._context.threads
            codec.thread_type = "SLICE" if self._context.threads == 1 else "AUTO"
            self.codec = codec.name
            self._packets = container.demux(stream)
        except (av.FFmpegError, OSError, ValueError) as error:
            self.close()
            late = time.monotonic() - began > OPEN_TIMEOUT * _NEARLY
            raise classify(error, opening=True, network=self.network, timed_out=late) from None
        except BaseException:
            self.close()
            raise

    def _next_frame(self) -> av.VideoFrame | None:
        """Decode one packet if no frame is left of the last one; None if it gave no frame.

        Raises:
            SourceError: The source failed.
            StopIteration: The source is at its end.
        """
        import av

        if self._packets is None:
            raise SourceError(Fault.LOST, "the source is not open")
        began = time.monotonic()
        try:
            if not self._frames:
                packet = next(self._packets)
                try:
                    self._frames = packet.decode()
                    self._bad_packets = 0
                except av.InvalidDataError:
                    # A lost packet spoils pictures up to the next key frame; that is no reason to reconnect.
                    self._bad_packets += 1
                    if self._bad_packets > _MAX_BAD_PACKETS:
                        raise
                    return None
            return self._frames.pop(0) if self._frames else None
        except (av.FFmpegError, OSError, ValueError) as error:
            late = time.monotonic() - began > self._context.read_timeout * _NEARLY
            first = self._number == 0
            raise classify(error, opening=first, network=self.network, timed_out=late) from None

    def _picture(self, frame: av.VideoFrame) -> VideoPicture:
        self._number += 1
        picture = VideoPicture(
            frame, number=self._number, captured_ns=time.time_ns(), discontinuity=self._discontinuity
        )
        self._discontinuity = False
        return picture

    def close(self) -> None:
        """Close the container."""
        self._packets, self._stream, self._frames = None, None, []
        container, self._container = self._container, None
        if container is not None:
            container.close()


class FileVideoSource(_Video):
    """A video file, played at its own pace, by default over and over."""

    def __init__(self, spec: FileSource, context: SourceContext) -> None:
        super().__init__(context)
        self._path = Path(spec.path)
        self._loop = spec.loop is not False
        self._opened: tuple[int, int] | None = None
        self._clock_start: float | None = None
        self._first_pts = 0.0
        self._last_pts = 0.0
        self._in_this_round = 0

    def open(self) -> None:
        """Open the file."""
        path = self._allowed_path()
        self._opened = _identity(path)
        self._clock_start = None
        self._in_this_round = 0
        self._open(f"file:{path}", {"protocol_whitelist": "file", "format_whitelist": _FILE_FORMATS})

    def _allowed_path(self) -> Path:
        try:
            path = self._path.resolve(strict=True)
            if not path.is_file():
                raise SourceError(Fault.INVALID, "this is not a file")
            roots = [root.resolve() for root in self._context.media_root]
        except OSError as error:
            raise classify(error, opening=True, network=False) from None
        except (ValueError, RuntimeError):
            raise SourceError(Fault.NOT_FOUND, "there is no such file") from None
        if roots and not any(path.is_relative_to(root) for root in roots):
            raise SourceError(Fault.MEDIA_NOT_ALLOWED, "the file is outside the folders that are allowed")
        return path

    def read(self) -> Picture | None:
        """The next frame, when its time has come."""
        try:
            frame = self._next_frame()
        except StopIteration:
            self._rewind()
            return None
        if frame is None or not self._pace(frame):
            return None
        self._in_this_round += 1
        return self._picture(frame)

    def _pace(self, frame: av.VideoFrame) -> bool:
        now = time.monotonic()
        pts = frame.time
        if pts is None:
            rate = self._stream.average_rate if self._stream is not None else None
            pts = self._last_pts + 1 / float(rate or 25)
        if self._clock_start is None:
            self._clock_start, self._first_pts = now, pts
        gap = pts - self._last_pts
        self._last_pts = pts
        delay = self._clock_start + (pts - self._first_pts) - now
        if delay < -_LATE_SECONDS or abs(gap) > _MAX_GAP_SECONDS:
            # Too late to catch up, or a jump in the time stamps: go on from here, without a burst.
            self._clock_start, self._first_pts = now, pts
            return True
        return delay <= 0 or self._context.wait(delay)

    def _rewind(self) -> None:
        if not self._in_this_round:
            raise SourceError(Fault.INVALID, "the file has no picture in it")
        if not self._loop:
            raise SourceError(Fault.ENDED, "the file has been played to its end")
        number, played = self._number, self._last_pts - self._first_pts
        start, period = self._clock_start, self._period()
        self._restart()
        self._number = number
        self._clock_start, self._in_this_round, self._discontinuity = None, 0, True
        if start is not None:
            self._context.wait(start + played + period - time.monotonic())

    def _restart(self) -> None:
        import av

        # A path that names another file by now, or none, does not go on with the one that is still open.
        same = _identity(self._allowed_path()) == self._opened
        if same and self._container is not None and self._stream is not None:
            try:
                self._container.seek(0)
                self._packets = self._container.demux(self._stream)
                return
            except av.FFmpegError:
                pass  # a raw stream cannot seek
        self.close()
        self.open()

    def _period(self) -> float:
        rate = self._stream.average_rate if self._stream is not None else None
        return 1 / float(rate) if rate else 0.04


def _identity(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise classify(error, opening=True, network=False) from None
    return stat.st_dev, stat.st_ino


class RtspVideoSource(_Video):
    """An RTSP stream, over TCP unless told otherwise."""

    network = True

    def __init__(self, spec: RtspSource, context: SourceContext) -> None:
        super().__init__(context)
        self._spec = spec

    def open(self) -> None:
        """Connect."""
        url = join_url(self._spec.url, read_credentials(self._context.credentials_dir))
        transport = self._spec.transport or "tcp"
        self._open(
            url,
            {
                "rtsp_transport": transport,
                "allowed_media_types": "video",
                "timeout": str(int(OPEN_TIMEOUT * 1e6)),
                # The session's description names the codec: FFmpeg need not look at the stream for two
                # seconds. No `nobuffer`, which throws the key frame away that it did look at.
                "analyzeduration": "300000",
                "fpsprobesize": "0",
                "protocol_whitelist": "rtp,srtp,rtsp,rtsps,tcp,tls,udp",
            },
        )

    def read(self) -> Picture | None:
        """The next frame as it comes."""
        try:
            frame = self._next_frame()
        except StopIteration:
            raise SourceError(Fault.LOST, "the camera ended the stream") from None
        return None if frame is None else self._picture(frame)
