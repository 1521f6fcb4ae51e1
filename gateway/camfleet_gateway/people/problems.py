"""Why something was not done, in words for people and a code for programs."""

from __future__ import annotations


class RefusedError(Exception):
    """A request that was not carried out; the text is for people and may name somebody: it is not logged."""

    def __init__(self, code: str, message: str, *, status: int = 422, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.details = details


def unknown_person() -> RefusedError:
    """There is nobody of that id."""
    return RefusedError("unknown_person", "there is no such person", status=404)


def unknown_face() -> RefusedError:
    """The person has no face of that id."""
    return RefusedError("unknown_face", "this person has no such picture", status=404)


def no_picture_file() -> RefusedError:
    """The row is there, its file is not."""
    return RefusedError("no_picture", "there is no picture of this face", status=404)


def no_room() -> RefusedError:
    """The disk does not take it."""
    return RefusedError("no_room", "the gateway's disk is full or cannot be written", status=503)
