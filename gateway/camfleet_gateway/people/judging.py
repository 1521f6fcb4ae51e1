"""Which face of a picture is enrolled, and whether it may be."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camfleet_gateway.people import words
from camfleet_gateway.people.embeddings import from_bytes
from camfleet_gateway.people.face_process import Analysis, FoundFace, Quality
from camfleet_gateway.people.known import KnownPeople
from camfleet_gateway.people.problems import RefusedError

DOMINATES = 3.0
"""By how much the largest face must cover more of the picture than the next one."""
ALMOST_SAME = 0.97
"""Similarity of two encodings of one picture; other pictures of a person stay well below."""


@dataclass(frozen=True, slots=True)
class ChosenFace:
    """A face that is good enough."""

    embedding: NDArray[np.float32]
    crop: bytes
    quality: Quality


def choose(analysis: Analysis) -> ChosenFace:
    """The face that the picture is of.

    Raises:
        RefusedError: There is none, there are several, or it is not good enough.
    """
    faces = sorted(analysis.faces, key=lambda face: face.area, reverse=True)
    if not faces:
        raise RefusedError("NoFace", words.NO_FACE)
    rivals = [face for face in faces if face.area * DOMINATES > faces[0].area]
    if len(rivals) > 1:
        raise RefusedError("SeveralFaces", words.SEVERAL.format(count=len(rivals)))
    return usable(faces[0])


def usable(face: FoundFace) -> ChosenFace:
    """A face with its embedding and picture.

    Raises:
        RefusedError: It is not good enough.
    """
    if face.refused:
        raise RefusedError(face.refused, words.quality_problem(face))
    try:
        embedding = from_bytes(base64.b64decode(face.embedding, validate=True))
        crop = base64.b64decode(face.crop, validate=True)
    except (ValueError, binascii.Error):
        raise RefusedError("FacesFailed", "this picture could not be analysed", status=503) from None
    return ChosenFace(embedding, crop, face.quality)


def check_likeness(
    known: KnownPeople,
    *,
    person_id: str,
    embedding: NDArray[np.float32],
    embedder: str,
    threshold: float,
    unlike: Collection[str] = (),
) -> None:
    """See whether the face is new, and not somebody else's.

    Args:
        known: Who is enrolled.
        person_id: Whose face it is said to be.
        embedding: The face, d values.
        embedder: Name and hash of the model that made it.
        threshold: From which similarity on two faces are of one person.
        unlike: People whose face it surely is not, whatever it looks like.

    Raises:
        RefusedError: `Duplicate` or `LooksLikeSomebodyElse`.
    """
    index = known.index(embedder, len(embedding))
    own = index.nearest(embedding, only=person_id)
    if own is not None and own.similarity >= ALMOST_SAME:
        raise RefusedError("Duplicate", words.SAME_FACE, status=409)
    other = index.nearest(embedding, without={person_id, *unlike})
    if other is None or other.similarity < threshold:
        return
    if own is not None and own.similarity > other.similarity:
        return  # two who look alike: the pictures that are here already say which of them it is
    person = known.people.get(other.person_id)
    raise words.looks_like(person.name if person else "somebody", other.person_id, other.similarity)
