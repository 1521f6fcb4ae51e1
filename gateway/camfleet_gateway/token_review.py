"""Workers in a cluster: the ServiceAccount token of a pod, checked by the API server (TokenReview).

The token is bound to its pod, so a good one proves namespace, pod name and pod UID. The name of a worker's
pod follows from the camera's UID and the attempt, which binds the token to both. Answers are kept for a
minute at most, so that a deleted pod is noticed; without an answer nobody is let in or sent away for good.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from camfleet_gateway.fencing import Judgement, hold, judge, refuse
from camfleet_gateway.kube import Json, Kube, KubeError, KubeUnreachableError
from camfleet_gateway.kubernetes_objects import uid_of
from camfleet_gateway.worker_auth import WRONG_CAMERA, BadTokenError, Credential, UnverifiedError
from camfleet_protocol.camera import Camera
from camfleet_protocol.cluster import TOKEN_AUDIENCE, pod_name
from camfleet_protocol.local import WorkerIdentity
from camfleet_protocol.messages import WorkerHello
from camfleet_protocol.signing import decode_base64url

logger = logging.getLogger(__name__)

T = TypeVar("T")

GOOD_SECONDS = 60.0
BAD_SECONDS = 5.0
MAX_GOOD = 20_000
MAX_BAD = 2_000
AT_ONCE = 16
"""Reviews in flight."""
REVIEW_SECONDS = 5.0
RETRY_SECONDS = 1.0
_UNREADABLE = (400, 413, 422)
_MAX_TOKEN_CHARACTERS = 16 * 1024
_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCOUNT = "system:serviceaccount:"
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"


@dataclass(frozen=True, slots=True)
class PodToken:
    """What a reviewed token proves: which pod holds it."""

    namespace: str
    pod: str
    pod_uid: str
    current: Callable[[], bool]
    """Whether the directory is as new as the API server's."""
    by_hand = False

    def judge(self, hello: WorkerHello, camera: Camera | None) -> Judgement:
        """Let the pod publish the camera that it was made for, while it is current."""
        namespace, _, name = hello.camera.partition(".")
        if namespace != self.namespace:
            return refuse("the token is of another namespace than the camera", WRONG_CAMERA)
        if camera is None or not (uid := uid_of(camera)):
            return hold("there is no such camera")
        if pod_name(name, uid, hello.attempt) != self.pod:
            if not self.current():  # this camera may have been deleted and made anew, unseen by us
                return hold("the camera may have changed, and the Kubernetes API does not answer")
            return refuse(
                f"the token is not of the pod of attempt {hello.attempt} of this camera", WRONG_CAMERA
            )
        return judge(WorkerIdentity(hello.camera, hello.attempt, self.pod_uid), camera)


class TokenReviews:
    """Asks the API server who bears a token."""

    def __init__(
        self,
        kube: Kube,
        *,
        current: Callable[[], bool],
        hold_seconds: float,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Prepare it.

        Args:
            kube: The API server.
            current: Whether the directory is as new as the API server's.
            hold_seconds: How long one that cannot be reviewed is kept waiting.
            now: Monotonic seconds, pauses of ours included.
            wall: Unix seconds.
        """
        self._kube = kube
        self._current = current
        self._hold_seconds = hold_seconds
        self._now = now
        self._wall = wall
        self._good: _Kept[PodToken] = _Kept(MAX_GOOD, now)
        self._bad: _Kept[BadTokenError] = _Kept(MAX_BAD, now)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._down_until = 0.0
        self._told = ""

    async def authenticate(self, token: str) -> Credential | None:
        """The pod of a token.

        Raises:
            BadTokenError: The API server does not accept it, for us.
            UnverifiedError: The API server does not answer.
        """
        claims = _claims(token)
        if claims is None:
            return None
        digest = hashlib.sha256(token.encode()).digest()
        deadline = self._now() + self._hold_seconds
        while True:
            if (found := self._good.get(digest)) is not None:
                return found
            if (refused := self._bad.get(digest)) is not None:
                raise BadTokenError(str(refused), refused.kind)
            wait = self._down_until - self._now()
            if wait > 0:
                if self._now() + wait > deadline:
                    raise UnverifiedError("the token cannot be checked: the Kubernetes API does not answer")
                await asyncio.sleep(wait * random.uniform(1.0, 1.5))
                continue
            async with self._slots:
                if self._down_until <= self._now():
                    await self._ask(digest, token, claims)

    async def _ask(self, digest: bytes, token: str, claims: Mapping[str, Any]) -> None:
        """Have one token reviewed and keep the answer, or note that there is none to be had."""
        body: Json = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [TOKEN_AUDIENCE]},
        }
        try:
            answer = await self._kube.call("POST", _PATH, body=body, seconds=REVIEW_SECONDS)
        except KubeUnreachableError as error:
            self._down(RETRY_SECONDS, f"no answer: {error}")
            return
        except KubeError as error:
            if error.status in _UNREADABLE:
                self._bad.put(digest, BadTokenError("the token is not readable"), BAD_SECONDS)
                return
            may_not = "the gateway may not create tokenreviews: " if error.status == 403 else ""
            self._down(max(RETRY_SECONDS, error.retry_after), f"{may_not}{error}")
            return
        self._told = ""
        try:
            pod = self._pod(answer.get("status") or {}, claims)
        except BadTokenError as error:
            self._bad.put(digest, error, BAD_SECONDS)
            return
        # The claims are those of a token that was found good; they only ever shorten the time.
        left = _expiry(claims) - self._wall()
        self._good.put(digest, pod, max(1.0, min(GOOD_SECONDS, left)))

    def _pod(self, status: Mapping[str, Any], claims: Mapping[str, Any]) -> PodToken:
        if not status.get("authenticated") or TOKEN_AUDIENCE not in (status.get("audiences") or ()):
            raise self._why(claims)
        user = status.get("user") or {}
        extra = user.get("extra") or {}
        name = str(user.get("username", ""))
        namespace = name.removeprefix(_ACCOUNT).partition(":")[0] if name.startswith(_ACCOUNT) else ""
        pods, uids = list(extra.get(_POD_NAME) or ()), list(extra.get(_POD_UID) or ())
        if not namespace or len(pods) != 1 or len(uids) != 1:
            raise BadTokenError("the token is not bound to a pod", "unbound_token")
        return PodToken(namespace, str(pods[0]), str(uids[0]), self._current)

    def _why(self, claims: Mapping[str, Any]) -> BadTokenError:
        """Why a token was refused, by what it says of itself: for people and counters only."""
        audiences = claims.get("aud")
        if TOKEN_AUDIENCE not in (audiences if isinstance(audiences, list) else [audiences]):
            return BadTokenError(f"the token is not for the audience {TOKEN_AUDIENCE}", "wrong_audience")
        if _expiry(claims) <= self._wall():
            return BadTokenError("the token has expired", "expired_token")
        return BadTokenError("the token is not valid in this cluster, or its pod is gone")

    def _down(self, seconds: float, text: str) -> None:
        self._down_until = self._now() + seconds
        if text != self._told:
            logger.error("workers' tokens cannot be checked, who connects must wait: %s", text)
        self._told = text


class _Kept(Generic[T]):
    """Answers by the digest of a token, each for its time, at most so many."""

    def __init__(self, limit: int, now: Callable[[], float]) -> None:
        self._limit = limit
        self._now = now
        self._answers: dict[bytes, tuple[float, T]] = {}

    def get(self, digest: bytes) -> T | None:
        found = self._answers.get(digest)
        if found is None:
            return None
        if found[0] <= self._now():
            del self._answers[digest]
            return None
        return found[1]

    def put(self, digest: bytes, answer: T, seconds: float) -> None:
        self._answers.pop(digest, None)
        while len(self._answers) >= self._limit:
            del self._answers[next(iter(self._answers))]
        self._answers[digest] = (self._now() + seconds, answer)


def _claims(token: str) -> Mapping[str, Any] | None:
    """The claims of a JWT, believed in nothing; None if it is none."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > _MAX_TOKEN_CHARACTERS:
        return None
    try:
        claims = json.loads(decode_base64url(parts[1]))
    except (ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _expiry(claims: Mapping[str, Any]) -> float:
    """When it says that it ends, as Unix seconds; 0 if it says nothing usable."""
    try:
        return float(claims["exp"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0.0
