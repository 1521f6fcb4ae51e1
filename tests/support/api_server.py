"""An API server with its etcd and nothing else: enough for schemas, rights, tokens and watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.testbed.components import available
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
