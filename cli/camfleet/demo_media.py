"""The demo's own clip: real faces, moving, on any machine and with nothing downloaded.

The insightface package carries a group photo; the camera pans and zooms over it on a closed path, so that the
clip loops without a jump. The package is located, not imported: importing it costs a second and 60 MB.
"""

from __future__ import annotations

import importlib.util
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT, _FPS, _SECONDS = 1280, 720, 15, 12
_PHOTO = Path("data", "images", "t1.jpg")


class PhotoMissingError(RuntimeError):
    """The insightface package, which carries the photo, is not installed."""


def group_photo() -> Path:
    """Path of the group photo inside the insightface package.

    Raises:
        PhotoMissingError: The package is not installed, or no longer carries the photo.
    """
    package = importlib.util.find_spec("insightface")
    for folder in (package.submodule_search_locations or ()) if package else ():
        if (photo := Path(folder) / _PHOTO).is_file():
            return photo
    raise PhotoMissingError("the group photo of the insightface package is not here")


def make_faces_clip(target: Path, *, seconds: float = _SECONDS) -> Path:
    """Write an H.264 clip (1280x720, 15 fps) of a moving view over the group photo.

    Raises:
        PhotoMissingError: There is no photo to make it from.
    """
    photo = cv2.imread(str(group_photo()), cv2.IMREAD_COLOR)
    if photo is None:
        raise PhotoMissingError("the group photo of the insightface package cannot be read")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    frames = round(seconds * _FPS)
    with av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=_FPS)
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, _FPS)
        stream.codec_context.gop_size = _FPS
        stream.options = {"preset": "veryfast", "crf": "23"}
        for number in range(frames):
            image = _view(np.asarray(photo, dtype=np.uint8), number / frames)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    part.replace(target)
    return target


def _view(photo: NDArray[np.uint8], phase: float) -> NDArray[Any]:
    """The picture at `phase` (0 to 1) of the closed path: height x width x 3, uint8, BGR."""
    height, width = photo.shape[:2]
    angle = 2 * math.pi * phase
    # As large as fits at 16:9, then between 100 % and 62 % of it.
    fit = min(width / _WIDTH, height / _HEIGHT)
    scale = fit * (0.81 + 0.19 * math.cos(angle))
    view_width, view_height = _WIDTH * scale, _HEIGHT * scale
    x = (width - view_width) * (0.5 + 0.5 * math.sin(angle))
    y = (height - view_height) * (0.3 + 0.3 * math.sin(2 * angle))  # the faces are in the upper half
    to_photo = np.array([[scale, 0, x], [0, scale, y]], dtype=np.float64)
    return cv2.warpAffine(
        photo,
        to_photo,
        (_WIDTH, _HEIGHT),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
