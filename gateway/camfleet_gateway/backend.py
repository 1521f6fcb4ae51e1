"""Where cameras come from and how workers prove who they are: one box, a cluster, or neither."""

from __future__ import annotations

from dataclasses import dataclass

from camfleet_gateway.auth import Authenticator
from camfleet_gateway.directory import Directory
from camfleet_gateway.folder_directory import FolderDirectory
from camfleet_gateway.memory_directory import MemoryDirectory
from camfleet_gateway.settings import GatewaySettings
from camfleet_gateway.worker_auth import FirstOf, SpawnTokens, StaticTokens, WorkerAuthenticator
from camfleet_protocol.local import StateFolder


@dataclass(frozen=True, slots=True)
class Backend:
    """The two ports to the outside that differ by installation."""

    directory: Directory
    workers: WorkerAuthenticator


def backend_for(settings: GatewaySettings, authenticator: Authenticator) -> Backend:
    """Choose by the settings; static tokens of workers are good everywhere."""
    if settings.kubernetes:
        return _cluster(settings, authenticator)
    if settings.state_dir is not None:
        state = StateFolder(settings.state_dir)
        folder = FolderDirectory(state)
        static = StaticTokens(authenticator, lambda: folder.ready)
        return Backend(folder, FirstOf(static, SpawnTokens(state.worker_key)))
    memory = MemoryDirectory()
    return Backend(memory, StaticTokens(authenticator, lambda: memory.ready))


def _cluster(settings: GatewaySettings, authenticator: Authenticator) -> Backend:
    # Imported here, for the client's own imports take most of a second.
    from camfleet_gateway.kube import Kube
    from camfleet_gateway.kubernetes_directory import KubernetesDirectory
    from camfleet_gateway.token_review import TokenReviews

    kube = Kube(settings.kubeconfig)
    directory = KubernetesDirectory(kube, settings.namespace)
    static = StaticTokens(authenticator, lambda: directory.ready)
    reviews = TokenReviews(kube, current=lambda: directory.current, hold_seconds=settings.hold_seconds)
    return Backend(directory, FirstOf(static, reviews))
