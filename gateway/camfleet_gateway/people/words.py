"""Reasons for which a picture is not enrolled, in plain words."""

from __future__ import annotations

from camfleet_gateway.people.face_process import FoundFace, Quality
from camfleet_gateway.people.problems import RefusedError

NO_FACE = "no face was found in this picture; use one that shows the face from the front, well lit"
SEVERAL = (
    "there are {count} faces of about the same size in this picture; cut it so that only the person's own "
    "face is large"
)
SAME_PICTURE = "this very picture of this person is enrolled already"
SAME_FACE = "this picture shows nothing new: another one of this person is almost the same"


def quality_problem(face: FoundFace) -> str:
    """Why a face is not good enough."""
    quality = face.quality
    match face.refused:
        case "TooSmall":
            return (
                f"the face is only {quality.height_px:.0f} pixels high; come closer to it or use a larger "
                "picture"
            )
        case "Blurred":
            return f"the face is not sharp (sharpness {quality.sharpness:.2g}); use a steadier picture"
        case "TurnedAway":
            return f"the face is turned {_turned(quality)}; use a picture from the front"
    return "the face is not good enough to recognise somebody by it"


def _turned(quality: Quality) -> str:
    angles = {"aside": quality.yaw, "up or down": quality.pitch, "over": quality.roll}
    way, angle = max(angles.items(), key=lambda item: abs(item[1]))
    return f"{way} by about {abs(angle):.0f}°" if abs(angle) >= 1 else "away"


def looks_like(name: str, person_id: str, similarity: float) -> RefusedError:
    """The face is more like somebody else who is enrolled."""
    return RefusedError(
        "LooksLikeSomebodyElse",
        f"this face looks like {name} (similarity {similarity:.2f}), who is enrolled already; "
        "if it is somebody else all the same, send it with force=1",
        status=409,
        details=(f"person_id: {person_id}",),
    )
