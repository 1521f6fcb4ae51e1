"""Parts of the gateway in a cluster that need no cluster: settings, cached reviews, server-side apply."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from camfleet_gateway import token_review
from camfleet_gateway.kube import KubeError, KubeUnreachableError
from camfleet_gateway.owned_fields import REPLACED_ANNOTATION, next_apply
from camfleet_gateway.settings import GatewaySettings
from camfleet_gateway.token_review import BAD_SECONDS, GOOD_SECONDS, PodToken, TokenReviews
from camfleet_gateway.worker_auth import BadTokenError, UnverifiedError
from camfleet_protocol.cluster import TOKEN_AUDIENCE


def test_in_a_pod_it_listens_for_all() -> None:
    inside = GatewaySettings(kubernetes=True, tokens_file=Path("tokens.yaml"))
    assert (inside.host, inside.internal_host) == ("0.0.0.0", "0.0.0.0")
    without_tokens = GatewaySettings(kubernetes=True)
    assert (without_tokens.host, without_tokens.internal_host) == ("127.0.0.1", "0.0.0.0")
    given = GatewaySettings(kubernetes=True, internal_host="::1")
    assert given.internal_host == "::1"
    outside = GatewaySettings(kubernetes=True, kubeconfig=Path("config"), tokens_file=Path("tokens.yaml"))
    assert (outside.host, outside.internal_host) == ("127.0.0.1", "127.0.0.1")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"kubernetes": True, "state_dir": "state"}, "exclude each other"),
        ({"kubeconfig": "config"}, "go with kubernetes"),
        ({"namespace": ["a"]}, "go with kubernetes"),
        ({"kubernetes": True, "namespace": ["a", "a"]}, "named twice"),
        ({"kubernetes": True, "namespace": ["A"]}, "namespace"),
        ({"kubernetes": True, "host": "0.0.0.0"}, "everybody who can reach it would be admin"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        GatewaySettings.model_validate(settings)


# ── Reviews ────────────────────────────────────────────────────────────────────────────────────────────


class Api:
    """Answers TokenReviews as told, and counts them."""

    def __init__(self) -> None:
        self.asked = 0
        self.at_once = self.most_at_once = 0
        self.answer: dict[str, Any] | Exception = GOOD

    async def call(self, method: str, path: str, *, body: Any, **_: Any) -> Any:
        assert body["spec"]["audiences"] == [TOKEN_AUDIENCE]
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return {"status": self.answer}


GOOD = {
    "authenticated": True,
    "audiences": [TOKEN_AUDIENCE],
    "user": {
        "username": "system:serviceaccount:north:default",
        "extra": {
            "authentication.kubernetes.io/pod-name": ["door-1"],
            "authentication.kubernetes.io/pod-uid": ["uid-1"],
        },
    },
}


class Time:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def reviews(api: Api, time: Time) -> TokenReviews:
    return TokenReviews(api, current=lambda: True, hold_seconds=0.0, now=time, wall=time)  # type: ignore[arg-type]


def jwt(**claims: Any) -> str:
    body = json.dumps({"aud": [TOKEN_AUDIENCE], "exp": 2_000_000_000} | claims).encode()
    return f"e30.{base64.urlsafe_b64encode(body).rstrip(b'=').decode()}.c2ln"


async def test_a_good_answer_is_kept_for_a_minute_at_most() -> None:
    api, time = Api(), Time()
    authority = reviews(api, time)
    found = await authority.authenticate(jwt())
    assert isinstance(found, PodToken) and (found.namespace, found.pod, found.pod_uid) == (
        "north",
        "door-1",
        "uid-1",
    )
    time.now += GOOD_SECONDS - 1
    await authority.authenticate(jwt())
    assert api.asked == 1
    time.now += 2
    await authority.authenticate(jwt())
    assert api.asked == 2
    short = jwt(exp=time.now + 10)
    await authority.authenticate(short)
    time.now += 11
    api.answer = {"authenticated": False}
    with pytest.raises(BadTokenError):
        await authority.authenticate(short)


async def test_a_bad_answer_is_kept_for_seconds() -> None:
    api, time = Api(), Time()
    api.answer = {"authenticated": False, "error": "no"}
    authority = reviews(api, time)
    for _ in range(3):
        with pytest.raises(BadTokenError):
            await authority.authenticate(jwt())
    assert api.asked == 1
    time.now += BAD_SECONDS + 1
    api.answer = GOOD
    assert await authority.authenticate(jwt()) is not None


@pytest.mark.parametrize(
    ("status", "claims", "kind"),
    [
        ({"authenticated": False}, {"aud": ["other"]}, "wrong_audience"),
        ({"authenticated": False}, {"aud": "other"}, "wrong_audience"),
        ({"authenticated": False}, {"exp": 5}, "expired_token"),
        ({"authenticated": False}, {"exp": 10**400}, "expired_token"),
        ({"authenticated": False}, {"exp": "soon"}, "expired_token"),
        ({"authenticated": False}, {}, "bad_token"),
        ({**GOOD, "audiences": []}, {}, "bad_token"),
        ({**GOOD, "user": {"username": "system:serviceaccount:north:default"}}, {}, "unbound_token"),
        ({**GOOD, "user": {**GOOD["user"], "username": "somebody"}}, {}, "unbound_token"),  # type: ignore[dict-item]
    ],
)
async def test_refusals_have_reasons_of_their_own(
    status: dict[str, Any], claims: dict[str, Any], kind: str
) -> None:
    api = Api()
    api.answer = status
    with pytest.raises(BadTokenError) as error:
        await reviews(api, Time()).authenticate(jwt(**claims))
    assert error.value.kind == kind


@pytest.mark.parametrize("token", ["", "a.b", "a.b.c", "e30.e30e.x", "e30.W10.x", "x" * 20_000, "é.ü.ö"])
async def test_what_is_no_token_of_a_pod_never_reaches_the_api_server(token: str) -> None:
    api = Api()
    assert await reviews(api, Time()).authenticate(token) is None
    assert api.asked == 0


@pytest.mark.parametrize(
    "failure",
    [
        KubeUnreachableError("refused"),
        KubeError(500, "", "broken"),
        KubeError(403, "", "no"),
        KubeError(429, "", ""),
    ],
)
async def test_without_an_answer_nobody_is_judged_and_the_api_server_left_in_peace(
    failure: Exception,
) -> None:
    api, time = Api(), Time()
    api.answer = failure
    authority = reviews(api, time)
    for number in range(50):
        with pytest.raises(UnverifiedError):
            await authority.authenticate(jwt(n=number))
    assert api.asked == 1
    api.answer = GOOD
    time.now += 2
    assert await authority.authenticate(jwt()) is not None


async def test_a_token_that_the_api_server_cannot_read_is_bad_and_stops_nobody_else() -> None:
    api = Api()
    api.answer = KubeError(400, "BadRequest", "what is that")
    authority = reviews(api, Time())
    with pytest.raises(BadTokenError):
        await authority.authenticate(jwt(odd=1))
    api.answer = GOOD
    assert await authority.authenticate(jwt()) is not None


async def test_reviews_are_bounded_in_number_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_review, "MAX_GOOD", 10)
    api = Api()
    authority = reviews(api, Time())
    await asyncio.gather(*(authority.authenticate(jwt(n=number)) for number in range(200)))
    assert api.most_at_once == token_review.AT_ONCE
    assert len(authority._good._answers) == 10


# ── Server-side apply ──────────────────────────────────────────────────────────────────────────────────


def live(
    spec: dict[str, Any], *entries: tuple[str, str, dict[str, Any]], replaced: Any = None
) -> dict[str, Any]:
    annotations = {} if replaced is None else {REPLACED_ANNOTATION: json.dumps(replaced)}
    return {
        "metadata": {
            "name": "door", "namespace": "north", "uid": "u", "resourceVersion": "7",
            "annotations": annotations,
            "managedFields": [
                {"manager": manager, "operation": operation, "fieldsV1": {"f:spec": fields}}
                for manager, operation, fields in entries
            ],
        },
        "spec": spec,
    }  # fmt: skip


OURS = ("camfleet-gateway", "Apply")
USER = ("kubectl", "Apply")
FPS = {"f:stream": {"f:fps": {}}}


@pytest.mark.parametrize(
    ("camera", "controls", "spec", "replaced"),
    [
        (live({}), {"suspend": True}, {"suspend": True}, None),
        (live({"stream": {"fps": 5}}, (*USER, FPS)), {"stream": {"fps": 9}}, {"stream": {"fps": 9}},
         {"stream": {"fps": 5}}),
        (live({"stream": {"fps": 9}}, (*OURS, FPS), replaced={"stream": {"fps": 5}}), {"suspend": False},
         {"stream": {"fps": 9}, "suspend": False}, {"stream": {"fps": 5}}),
        (live({"stream": {"fps": 9}}, (*OURS, FPS), replaced={"stream": {"fps": 5}}),
         {"stream": {"fps": None}}, {"stream": {"fps": 5}}, {"stream": {"fps": 5}}),
        (live({"stream": {"fps": 9}}, (*OURS, FPS)), {"stream": {"fps": None}}, None, None),
        (live({"stream": {"fps": 9}}, (*OURS, FPS)), {"stream": None}, None, None),
        (live({"stream": {"fps": 9}}, (*OURS, FPS), (*USER, FPS)), {"stream": {"fps": None}}, None, None),
        (live({"stream": {"fps": 5}}, (*USER, FPS)), {"stream": {"fps": 5}}, {"stream": {"fps": 5}}, None),
        (live({"stream": {"fps": 5}}, (*USER, FPS), replaced={"stream": {"fps": 3}}), {"suspend": True},
         {"suspend": True}, None),
        (live({"inference": {"detectors": ["a"]}}, (*USER, {"f:inference": {"f:detectors": {}}})),
         {"inference": {"detectors": ["b", "c"]}}, {"inference": {"detectors": ["b", "c"]}},
         {"inference": {"detectors": ["a"]}}),
        (live({"stream": {"fps": 5}}, ("camfleet-gateway", "Update", FPS)), {"stream": {"fps": 9}},
         {"stream": {"fps": 9}}, {"stream": {"fps": 5}}),
    ],
)  # fmt: skip
def test_the_next_apply(
    camera: dict[str, Any], controls: dict[str, Any], spec: dict[str, Any] | None, replaced: Any
) -> None:
    document = next_apply(camera, controls)
    assert document.get("spec") == spec
    metadata = document["metadata"]
    kept = metadata.pop("annotations", {}).get(REPLACED_ANNOTATION)
    assert (json.loads(kept) if kept else None) == replaced
    assert metadata == {"name": "door", "namespace": "north", "uid": "u", "resourceVersion": "7"}


def test_an_annotation_that_somebody_has_spoilt_is_no_obstacle() -> None:
    camera = live({"stream": {"fps": 9}}, (*OURS, FPS))
    camera["metadata"]["annotations"][REPLACED_ANNOTATION] = "{"
    assert "spec" not in next_apply(camera, {"stream": {"fps": None}})
