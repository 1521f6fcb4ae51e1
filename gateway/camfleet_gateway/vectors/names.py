"""Names of collections: one for each embedding model, for vectors of different models cannot be compared.

`camfleet_KEY_MODEL_GENERATION`: the id of the key that seals the database's vectors, so that several
installations can share a server; a hash of the model's identity; a number that rises when it is made anew.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

_MODEL_DIGITS = 12


def prefix(key_id: str) -> str:
    """What all collections of one installation begin with."""
    return f"camfleet_{key_id}_"


def model_hash(embedder: str) -> str:
    """Stands for a model, such as mobilefacenet@b7120c095d60."""
    return hashlib.sha256(embedder.encode()).hexdigest()[:_MODEL_DIGITS]


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """A collection's name, taken apart."""

    model: str
    generation: int

    @classmethod
    def parse(cls, text: str, prefix: str) -> Name | None:
        """Take a name apart; None if it is not of this installation."""
        model, _, generation = text.removeprefix(prefix).partition("_")
        if not text.startswith(prefix) or len(model) != _MODEL_DIGITS or not generation.isdecimal():
            return None
        return cls(model, int(generation))

    def text(self, prefix: str) -> str:
        """Put it together."""
        return f"{prefix}{self.model}_{self.generation}"
