"""Where a picture's faces are, for those who may not show them."""

from __future__ import annotations

from camfleet_protocol.vision import BlurFaces
from camfleet_worker.privacy import WHOLE, Face, FaceCover, Wait

FACE, ELSEWHERE = (0.4, 0.4, 0.1, 0.2), (0.8, 0.4, 0.1, 0.2)
SECOND = 1_000_000_000


def test_only_pictures_whose_faces_were_looked_for_leave() -> None:
    cover = FaceCover()
    assert cover.areas(100 * SECOND, BlurFaces.NEVER) == ()
    assert cover.areas(100 * SECOND, BlurFaces.ALWAYS) == WHOLE, "nobody looks for faces"
    cover.saw(100 * SECOND, [Face(FACE, 1, True), Face(ELSEWHERE, 2)])
    assert len(cover.areas(100 * SECOND, BlurFaces.ALWAYS)) == 2  # type: ignore[arg-type]
    (only,) = cover.areas(100 * SECOND, BlurFaces.UNKNOWN)  # type: ignore[misc]
    assert only[0] < ELSEWHERE[0] and only[0] + only[2] > ELSEWHERE[0] + ELSEWHERE[2], "with a margin"
    assert cover.areas(100 * SECOND + 1, BlurFaces.ALWAYS) is Wait.WAIT, "another picture"
    assert cover.areas(103 * SECOND, BlurFaces.ALWAYS) == WHOLE, "the detector has failed since"


def test_a_face_that_is_missed_for_a_moment_stays_covered() -> None:
    cover = FaceCover()
    cover.saw(100 * SECOND, [Face(FACE, 1)])
    cover.saw(100 * SECOND + SECOND // 2, [])
    (held,) = cover.areas(100 * SECOND + SECOND // 2, BlurFaces.ALWAYS)  # type: ignore[misc]
    assert held[2] > 1.5 * FACE[2], "it may have moved"
    cover.saw(102 * SECOND, [])
    assert cover.areas(102 * SECOND, BlurFaces.ALWAYS) == ()
