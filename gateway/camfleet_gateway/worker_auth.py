"""How workers prove who they are: one port, and its implementations outside a cluster.

A token becomes a `Credential`, and that judges: whether this worker may publish the camera that it claims in
its hello, now, never, or perhaps in a moment. `token_review` has the implementation for pods.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from camfleet_gateway.auth import Authenticator
from camfleet_gateway.fencing import Judgement, hold, judge, judge_by_hand, refuse
from camfleet_protocol.camera import Camera
from camfleet_protocol.local import WorkerIdentity, verify_worker_token
from camfleet_protocol.messages import WorkerHello

logger = logging.getLogger(__name__)

WRONG_CAMERA = "wrong_camera"


class BadTokenError(Exception):
    """The token proves nothing and will not; `kind` is for the count of refused sessions."""

    def __init__(self, reason: str, kind: str = "bad_token") -> None:
        super().__init__(reason)
        self.kind = kind


class UnverifiedError(Exception):
    """Whether the token proves anything cannot be found out now."""


class Credential(Protocol):
    """What a token has proven."""

    @property
    def by_hand(self) -> bool:
        """Whether it says nothing of which process this is, so that a second one is another worker."""

    def judge(self, hello: WorkerHello, camera: Camera | None) -> Judgement:
        """Whether its bearer may publish the camera of its hello, as the directory has that now."""


class WorkerAuthenticator(Protocol):
    """Checks the tokens of one kind."""

    async def authenticate(self, token: str) -> Credential | None:
        """What a token proves; None if it is not of this kind.

        Raises:
            BadTokenError: It is of this kind and not good.
            UnverifiedError: That cannot be found out now.
        """


@dataclass(frozen=True, slots=True)
class ByHand:
    """A static token: good for cameras that the directory does not know."""

    ready: Callable[[], bool]
    by_hand = True

    def judge(self, hello: WorkerHello, camera: Camera | None) -> Judgement:
        """Let it publish what nobody manages."""
        if not self.ready():
            return hold("the cameras are not known yet")
        return judge_by_hand(camera)


class StaticTokens:
    """Tokens of the role `worker` in the tokens file, for workers run by hand."""

    def __init__(self, authenticator: Authenticator, ready: Callable[[], bool]) -> None:
        """Take tokens from `authenticator`; `ready` tells whether the directory knows its cameras."""
        self._authenticator = authenticator
        self._credential = ByHand(ready)

    async def authenticate(self, token: str) -> Credential | None:
        """The credential of a static token."""
        return self._credential if self._authenticator.worker(token) is not None else None


@dataclass(frozen=True, slots=True)
class Spawned:
    """The token of a process that the local runtime has started for one camera."""

    identity: WorkerIdentity
    by_hand = False

    def judge(self, hello: WorkerHello, camera: Camera | None) -> Judgement:
        """Let it publish its own camera while it is current."""
        if self.identity.camera != hello.camera:
            return refuse("the token is for another camera", WRONG_CAMERA)
        return judge(self.identity, camera)


class SpawnTokens:
    """Tokens that the local runtime signs with the key of the state folder."""

    def __init__(self, key: Path) -> None:
        """Verify with the key in this file, read anew each time."""
        self._key = key

    async def authenticate(self, token: str) -> Credential | None:
        """The credential of a signed token."""
        try:
            key = self._key.read_bytes()
        except OSError as error:
            logger.error("the worker key cannot be read: %s", error.strerror)
            return None
        identity = verify_worker_token(key, token)
        return None if identity is None else Spawned(identity)


class FirstOf:
    """Several kinds of tokens, asked in order."""

    def __init__(self, *kinds: WorkerAuthenticator) -> None:
        """Ask these."""
        self._kinds = kinds

    async def authenticate(self, token: str) -> Credential | None:
        """The credential by the first kind that knows the token."""
        for kind in self._kinds:
            credential = await kind.authenticate(token)
            if credential is not None:
                return credential
        return None
