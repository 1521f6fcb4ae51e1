"""An API server with its etcd: enough for schemas, rights, tokens and watches. What a whole plane needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.testbed.components import API_LEVEL, ComponentMissingError, available, find
from tests.testbed.control_plane import ControlPlane

from support.require import need

_PROGRAMS = ("kube-apiserver", "etcd", "kubectl")


@contextmanager
def api_server(*, crds: bool) -> Iterator[ControlPlane]:
    """Run one, with or without Camfleet's CustomResourceDefinitions."""
    missing = available(_PROGRAMS)
    need(missing is None, missing or "the API level")
    with ControlPlane() as control_plane:
        if crds:
            control_plane.apply_crds()
        yield control_plane


def need_control_plane() -> None:
    """Skip (or fail, as `need` does) where the programs of a whole control plane are not here."""
    missing = available(API_LEVEL)
    need(missing is None, missing or "the API level")
    try:
        for name in API_LEVEL:
            find(name)
    except ComponentMissingError as error:
        need(False, str(error))
