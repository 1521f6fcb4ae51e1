"""Keeps thousands of parsed cameras small: what is the same in many of them is held once.

A pydantic model remembers in a set of its own which fields were given, and those sets are more than half of
what a parsed Camera weighs. Models are frozen and copies copy the set, so equal sets can be one set. Settings
in force are the same in most cameras of a profile.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

from pydantic import BaseModel

from camfleet_protocol.camera import CameraStatus, SettingsStatus

_given: dict[frozenset[str], set[str]] = {}
"""As many as there are combinations of fields."""
_settings: WeakValueDictionary[str, SettingsStatus] = WeakValueDictionary()


def compact(model: BaseModel) -> None:
    """Share what a parsed object, its parts included, has in common with others."""
    given = model.__pydantic_fields_set__
    object.__setattr__(model, "__pydantic_fields_set__", _given.setdefault(frozenset(given), given))
    for value in model.__dict__.values():
        if isinstance(value, BaseModel):
            compact(value)
        elif type(value) is tuple:
            for item in value:
                if isinstance(item, BaseModel):
                    compact(item)
    if isinstance(model, CameraStatus) and (settings := model.settings) is not None:
        known = _settings.setdefault(settings.hash, settings)
        if known is not settings and known == settings:
            model.__dict__["settings"] = known
