"""What the people's API takes and answers."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from camfleet_gateway.people.times import From, Until
from camfleet_gateway.store.view import EventView
from camfleet_protocol.camera import DnsLabel
from camfleet_protocol.gallery import PersonId

GROUPS = ("staff", "visitor", "blocked")
"""Groups that mean something to alerts and the page; others are the user's own."""

_CONTROLS = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = dict.fromkeys(map(ord, "\u200c\u200d\u200e\u200f"))
"""Some scripts need these to be written: joiners, and marks of direction. Nobody sees them by themselves."""


def _plain(text: str) -> str:
    """One line of text, as people see it.

    Raises:
        ValueError: Control characters are in it, or such as show it otherwise than it is.
    """
    text = unicodedata.normalize("NFC", text).strip()
    if any(unicodedata.category(character) in _CONTROLS for character in text.translate(_JOINERS)):
        raise ValueError("must be one line of text")
    return text


def _named(text: str) -> str:
    if not text.translate(_JOINERS).strip():
        raise ValueError("must not be empty")
    return text


Name = Annotated[str, Field(max_length=128), AfterValidator(_plain), AfterValidator(_named)]
Note = Annotated[str, Field(max_length=512), AfterValidator(_plain)]
ExternalId = Annotated[str, Field(max_length=128), AfterValidator(_plain), AfterValidator(_named)]
Group = Annotated[DnsLabel, Field(description="staff, visitor, blocked, or a DNS label of your own")]


class _In(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class PersonIn(_In):
    """Somebody to be enrolled."""

    name: Name
    group: Group = "staff"
    note: Note = ""
    external_id: Annotated[
        ExternalId | None, Field(description="Key of the person in another system; unique")
    ] = None
    valid_from: From = None
    valid_until: Until = None

    @model_validator(mode="after")
    def _in_order(self) -> PersonIn:
        check_validity(self.valid_from, self.valid_until)
        return self


class PersonPatch(_In):
    """Fields to change; null takes a value away."""

    name: Name | None = None
    group: Group | None = None
    note: Note | None = None
    external_id: ExternalId | None = None
    valid_from: From = None
    valid_until: Until = None

    def changes(self) -> dict[str, Any]:
        """The columns that were given.

        Raises:
            ValueError: A person without a name or a group.
        """
        given: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set}
        for needed in ("name", "group"):
            if given.get(needed, "") is None:
                raise ValueError(f"{needed}: must not be null")
        if given.get("note", "") is None:
            given["note"] = ""
        return given


class EventPerson(_In):
    """Whose face it is: somebody enrolled, somebody new, or surely not somebody."""

    person_id: PersonId | None = None
    name: Name | None = None
    group: Group | None = None
    not_person_id: PersonId | None = None

    @model_validator(mode="after")
    def _one_of_three(self) -> EventPerson:
        given = [self.person_id is not None, self.name is not None, self.not_person_id is not None]
        if sum(given) != 1:
            raise ValueError("exactly one of person_id, name and not_person_id is needed")
        if self.group is not None and self.name is None:
            raise ValueError("group goes with name")
        return self


def check_validity(valid_from: float | None, valid_until: float | None) -> None:
    """Refuse dates in the wrong order.

    Raises:
        ValueError: They are.
    """
    if valid_from is not None and valid_until is not None and valid_from >= valid_until:
        raise ValueError("valid_until must be after valid_from")


class PersonView(BaseModel):
    """One enrolled person."""

    id: str
    name: str
    group: str
    valid_from: Annotated[float | None, Field(description="Unix seconds")]
    valid_until: Annotated[float | None, Field(description="Unix seconds")]
    valid: Annotated[bool, Field(description="Whether they are recognised now, by these dates")]
    faces: Annotated[int, Field(description="Enrolled pictures")]
    negatives: Annotated[int, Field(description="Faces that are surely not theirs")]
    needs_reembedding: Annotated[
        int, Field(description="Pictures that another model embedded; workers do not get them")
    ]
    thumbnail_url: Annotated[str | None, Field(description="Picture of the first face")]
    created: float
    updated: float
    note: Annotated[str | None, Field(description="For operators and admins only")] = None
    external_id: Annotated[str | None, Field(description="For operators and admins only")] = None


class PersonList(BaseModel):
    """People by name."""

    people: list[PersonView]
    next_cursor: str | None
    total: Annotated[int, Field(description="All that match")]
    groups: Annotated[dict[str, int], Field(description="All groups, with their number of people")]


class QualityView(BaseModel):
    """How good a picture is for recognition."""

    score: Annotated[float, Field(description="0 to 1")]
    height_px: float | None = None
    sharpness: float | None = None
    yaw: float | None = None
    pitch: float | None = None
    roll: float | None = None


class FaceView(BaseModel):
    """One enrolled face."""

    id: str
    negative: Annotated[bool, Field(description="Surely not theirs")]
    source: Literal["upload", "event", "import"]
    event_id: str | None
    quality: QualityView
    embedder: str
    needs_reembedding: bool
    created: float
    url: Annotated[
        str | None, Field(description="Its picture; of a face that is not theirs only the vector is kept")
    ]


class FaceList(BaseModel):
    """A person's faces, first enrolled first."""

    faces: list[FaceView]


class SaidView(BaseModel):
    """What came of saying whose face an event shows."""

    event: EventView
    person_id: str
    face: Annotated[FaceView | None, Field(description="The face that was enrolled, or kept as not theirs")]
    not_enrolled: Annotated[
        str,
        Field(description="Why it was not: `Duplicate` or `TooManyFaces`; the event says it all the same"),
    ]


class ErasedCounts(BaseModel):
    """What was removed."""

    faces: int
    events: Annotated[int, Field(description="Events that told of them and do not any more")]
    lookalikes: Annotated[
        int | None,
        Field(description="Events that told of nobody and showed them; null if these were to be left"),
    ]
    pictures: int
    vectors: int


class ErasedView(BaseModel):
    """The answer to an erasure."""

    erased: ErasedCounts


class ErasurePreview(BaseModel):
    """What erasing a person would remove, as it is now."""

    faces: Annotated[int, Field(description="Enrolled pictures, and vectors that are surely not theirs")]
    events: Annotated[int, Field(description="Events that tell of them")]
    pictures: Annotated[int, Field(description="Enrolled pictures, and those of these events")]
    lookalikes: Annotated[int, Field(description="Events that tell of nobody and show them")]
    lookalike_pictures: Annotated[int, Field(description="Pictures of those")]


class PictureProblem(BaseModel):
    """A picture of an import that was not enrolled."""

    picture: Annotated[str, Field(description="Its path in the archive")]
    code: str
    message: str


class ImportRow(BaseModel):
    """What became of one person of an import."""

    row: Annotated[int, Field(description="Line of people.csv, or number of the folder, from 1")]
    name: str
    person_id: str | None = None
    action: Literal["created", "updated", "unchanged", "refused"]
    faces_added: int = 0
    faces_known: Annotated[int, Field(description="Pictures that were enrolled already")] = 0
    problems: list[PictureProblem] = Field(default_factory=list)
    code: Annotated[str, Field(description="Why the row was refused")] = ""
    message: str = ""


class ImportReport(BaseModel):
    """What became of an import."""

    running: bool = False
    format: Literal["folders", "table", "export", ""] = ""
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    faces_added: int = 0
    pictures_refused: int = 0
    error: Annotated[str, Field(description="Why it ended before its end")] = ""
    rows: list[ImportRow] = Field(default_factory=list)


class ReembedView(BaseModel):
    """How far the faces are embedded anew."""

    running: bool
    embedder: str
    total: int
    done: int
    failed: Annotated[int, Field(description="Pictures in which the model finds no face any more")]
