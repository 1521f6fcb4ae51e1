"""What can go wrong with what is kept."""

from __future__ import annotations


class StoreError(Exception):
    """The store cannot be used as it is set up; the text holds no credential."""


class UnavailableError(StoreError):
    """Not now: the database is away, or a disk is full. Nothing was stored; the same may work later."""


class SchemaError(StoreError):
    """The database has a schema that this program does not know."""


class KeyFileError(StoreError):
    """The key file cannot be used."""


class WrongKeyError(StoreError):
    """Sealed with another key, or for another place, or damaged."""
