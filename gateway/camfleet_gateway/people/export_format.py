"""The archive of an export: people.csv for people, faces.jsonl and pictures/ to restore from.

```
manifest.json                  {"format": "camfleet-people", "version": 1, …}
people.csv                     as for an import, with the column id
people.jsonl                   each person exactly, as `ExportedPerson`
faces.jsonl                    each face, as `ExportedFace`
pictures/PERSON/FACE.jpg
```

The vectors in it are plain: the archive is as secret as the database and its key together.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from camfleet_gateway.people.views import ExternalId, Group, Name, Note
from camfleet_protocol.gallery import PersonId

MANIFEST = "manifest.json"
PEOPLE = "people.jsonl"
FACES = "faces.jsonl"
FORMAT = "camfleet-people"
VERSION = 1

_Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Manifest(_Line):
    """What the archive is."""

    format: Literal["camfleet-people"] = "camfleet-people"
    version: Annotated[int, Field(ge=1)] = VERSION
    created: _Time
    people: int
    faces: int
    embedders: dict[str, int]
    """Faces by model."""


class ExportedPerson(_Line):
    """A row of `people`."""

    id: PersonId
    name: Name
    group: Group
    note: Note = ""
    external_id: ExternalId | None = None
    valid_from: _Time | None = None
    valid_until: _Time | None = None
    created: _Time
    updated: _Time


class ExportedFace(_Line):
    """A row of `faces`."""

    id: PersonId
    person_id: PersonId
    negative: bool = False
    source: Literal["upload", "event", "import"]
    event_id: Annotated[str | None, Field(max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")] = None
    digest: Annotated[str, Field(max_length=64, pattern=r"^[0-9a-f]*$")] = ""
    quality: Annotated[float, Field(ge=0, le=1)] = 0.0
    embedder: Annotated[str, Field(max_length=128, pattern=r"^[\x21-\x7e]+$")]
    embedding: Annotated[str, Field(max_length=4096)]
    """Base64 of little-endian float16."""
    created: _Time
    picture: Annotated[str, Field(max_length=200)] = ""
    """Path in the archive; empty where there is none."""


def picture_path(person_id: str, face_id: str) -> str:
    """Where a face's picture is in the archive."""
    return f"pictures/{person_id}/{face_id}.jpg"
