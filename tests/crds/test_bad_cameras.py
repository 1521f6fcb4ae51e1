"""Bad Cameras are refused by the API server itself, in words that help, without showing a credential.

Needs an API server; no operator and no webhook runs. Each row is a mistake that people make and the text
that they must read.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from crd_api import CrdApi, camera, profile
from tests.testbed.control_plane import ControlPlane

pytestmark = pytest.mark.cluster

CANARY = "k7Xcanary9Qz"
PATTERN: dict[str, Any] = {"source": {"testPattern": {}}}
USERINFO = (
    'Invalid value: "object": the URL has a user or password in it; put them into a Secret and name it in '
    "credentialsSecretRef"
)
EXACTLY_ONE = (
    'spec.source: Invalid value: "object": exactly one of rtsp, http, file, device, testPattern must be given'
)
LABEL = (
    "must be a DNS label: at most 63 lower-case letters, digits and '-', with a letter or digit at both ends"
)


def rtsp(url: Any, **more: Any) -> dict[str, Any]:
    return {"source": {"rtsp": {"url": url, **more}}}


def file(path: str, **more: Any) -> dict[str, Any]:
    return {"source": {"file": {"path": path, **more}}}


def with_(**blocks: Any) -> dict[str, Any]:
    return {**PATTERN, **blocks}


BAD_SPECS: dict[str, tuple[dict[str, Any], str]] = {
    # The source
    "no source": ({}, "spec.source: Required value"),
    "empty source": ({"source": {}}, EXACTLY_ONE),
    "two sources": ({"source": {"testPattern": {}, "file": {"path": "a.mp4"}}}, EXACTLY_ONE),
    "unknown kind of source": ({"source": {"webcam": {}}}, 'unknown field "spec.source.webcam"'),
    # URLs
    "password": (rtsp(f"rtsp://admin:{CANARY}@10.0.0.5/live"), f"spec.source.rtsp.url: {USERINFO}"),
    "password with an @": (rtsp(f"rtsp://admin:{CANARY}@x@10.0.0.5/"), f"spec.source.rtsp.url: {USERINFO}"),
    "user alone": (rtsp(f"rtsp://{CANARY}@10.0.0.5/live"), f"spec.source.rtsp.url: {USERINFO}"),
    "password behind a backslash": (
        rtsp(f"rtsp://10.0.0.5\\{CANARY}@x/"),
        f"spec.source.rtsp.url: {USERINFO}",
    ),
    "password in detectUrl": (
        rtsp("rtsp://10.0.0.5/1", detectUrl=f"rtsp://admin:{CANARY}@10.0.0.5/2"),
        f"spec.source.rtsp.detectUrl: {USERINFO}",
    ),
    "password in an http URL": (
        {"source": {"http": {"url": f"https://admin:{CANARY}@cam.example/"}}},
        f"spec.source.http.url: {USERINFO}",
    ),
    "password and a newline": (
        rtsp(f"rtsp://admin:{CANARY}\n@10.0.0.5/live"),
        "the URL has whitespace, control or non-ASCII characters; percent-encode them",
    ),
    "password that is cut by a slash": (
        rtsp(f"rtsp://admin:{CANARY}/x@10.0.0.5/live"),
        'spec.source.rtsp.url: Invalid value: "object": the port of the URL is not a number from 1 to 65535',
    ),
    "password in a URL of the wrong scheme": (
        rtsp(f"http://admin:{CANARY}@10.0.0.5/live"),
        "the URL must start with rtsp:// or rtsps://",
    ),
    "password in a list": (
        rtsp([f"rtsp://admin:{CANARY}@10.0.0.5/live"]),
        'spec.source.rtsp.url: Invalid value: "array": spec.source.rtsp.url in body must be of type string',
    ),
    "password in a very long URL": (
        rtsp(f"rtsp://admin:{CANARY}@10.0.0.5/{'a' * 3000}"),
        "spec.source.rtsp.url: Too long: may not be more than 2048 bytes",
    ),
    "password as a field": (
        rtsp("rtsp://10.0.0.5/live", password=CANARY),
        'unknown field "spec.source.rtsp.password"',
    ),
    "password instead of a Secret's name": (
        rtsp("rtsp://10.0.0.5/live", credentialsSecretRef=CANARY),
        'spec.source.rtsp.credentialsSecretRef: Invalid value: "string": '
        "spec.source.rtsp.credentialsSecretRef in body must be of type object",
    ),
    "http in rtsp": (
        rtsp("http://10.0.0.5/live"),
        'spec.source.rtsp.url: Invalid value: "object": the URL must start with rtsp:// or rtsps://',
    ),
    "rtsp in http": (
        {"source": {"http": {"url": "rtsp://10.0.0.5/live"}}},
        'spec.source.http.url: Invalid value: "object": the URL must start with http:// or https://',
    ),
    "no scheme": (rtsp("10.0.0.5/live"), "the URL must start with rtsp:// or rtsps://"),
    "no host": (rtsp("rtsp:///live"), "the URL has no host"),
    "host that is none": (
        rtsp("rtsp://[10.0.0.5]/live"),
        "the host of the URL is neither a name nor an address",
    ),
    "port out of range": (
        rtsp("rtsp://10.0.0.5:70000/"),
        "the port of the URL is not a number from 1 to 65535",
    ),
    "space in a URL": (
        rtsp("rtsp://10.0.0.5/my stream"),
        "the URL has whitespace, control or non-ASCII characters; percent-encode them",
    ),
    "control character in a URL": (
        rtsp("rtsp://10.0.0.5/a\x07b"),
        "the URL has whitespace, control or non-ASCII characters; percent-encode them",
    ),
    "unknown transport": (
        rtsp("rtsp://10.0.0.5/", transport="TCP"),
        'spec.source.rtsp.transport: Unsupported value: "TCP": supported values: "tcp", "udp"',
    ),
    # Files and devices
    "file traversal": (
        file("clips/../../etc/passwd"),
        "spec.source.file.path: Invalid value: \"string\": must not go up with '..'",
    ),
    "file traversal at the start": (file("../secret.mp4"), "must not go up with '..'"),
    "absolute path in a claim": (
        file("/clips/a.mp4", claimName="clips"),
        'spec.source.file.path: Invalid value: "object": '
        "with claimName the path starts at the root of the claim, so it has no '/' in front",
    ),
    "control character in a path": (file("a\x00.mp4"), "must not have control characters"),
    "empty path": (file(""), "spec.source.file.path in body should be at least 1 chars long"),
    "device outside /dev": (
        {"source": {"device": {"path": "/etc/shadow"}}},
        "must be a path under /dev, such as /dev/video0",
    ),
    # Numbers
    "fps 0": (with_(stream={"fps": 0}), 'spec.stream.fps: Invalid value: "number": must be at least 0.1'),
    "fps -1": (
        with_(inference={"fps": -1}),
        'spec.inference.fps: Invalid value: "number": must be at least 0.1',
    ),
    "fps 1e9": (with_(stream={"fps": 1e9}), "spec.stream.fps in body should be less than or equal to 120"),
    "fps NaN": (with_(stream={"fps": float("nan")}), "invalid character 'N' looking for beginning of value"),
    "fps as a text": (
        with_(stream={"fps": "10"}),
        'spec.stream.fps: Invalid value: "string": spec.stream.fps in body must be of type number',
    ),
    "odd width": (
        {"source": {"testPattern": {"width": 641}}},
        "spec.source.testPattern.width: Invalid value: 641: "
        "spec.source.testPattern.width in body should be a multiple of 2",
    ),
    "negative size": (
        {"source": {"testPattern": {"height": -480}}},
        "spec.source.testPattern.height in body should be greater than or equal to 64",
    ),
    "huge width": (
        with_(stream={"width": 100_000}),
        "spec.stream.width in body should be less than or equal to 7680",
    ),
    "fraction of a pixel": (
        with_(stream={"width": 640.5}),
        'spec.stream.width: Invalid value: "number": spec.stream.width in body must be of type integer',
    ),
    "quality 101": (
        with_(stream={"quality": 101}),
        "spec.stream.quality in body should be less than or equal to 100",
    ),
    "confidence 70": (
        with_(inference={"confidence": 70}),
        "spec.inference.confidence in body should be less than or equal to 1",
    ),
    "no patience": (
        with_(health={"stallTimeoutSeconds": 0}),
        "spec.health.stallTimeoutSeconds in body should be greater than or equal to 1",
    ),
    "never frozen, said in another way": (
        with_(health={"frozenTimeoutSeconds": -1}),
        "spec.health.frozenTimeoutSeconds in body should be greater than or equal to 0",
    ),
    # GPU, resources, placement
    "GPU count 0": (with_(gpu={"count": 0}), "spec.gpu.count in body should be greater than or equal to 1"),
    "GPU mode in small letters": (
        with_(gpu={"mode": "required"}),
        'spec.gpu.mode: Unsupported value: "required": supported values: "Required", "Preferred", "Disabled"',
    ),
    "GPU resource without a domain": (
        with_(gpu={"resourceName": "gpu"}),
        'spec.gpu.resourceName: Invalid value: "string": must be the name of an extended resource, '
        "such as nvidia.com/gpu or nvidia.com/mig-1g.5gb",
    ),
    "negative memory": (
        with_(resources={"limits": {"memory": "-1Gi"}}),
        "spec.resources.limits.memory in body should match",
    ),
    "tolerating nothing": (
        with_(placement={"tolerations": [{"value": "x"}]}),
        'spec.placement.tolerations[0]: Invalid value: "object": without a key the operator must be Exists',
    ),
    "node selector with a space": (
        with_(placement={"nodeSelector": {"my zone": "a"}}),
        'spec.placement.nodeSelector: Invalid value: "object": every key must be a Kubernetes name',
    ),
    # The rest
    "unknown field": (with_(fps=5), 'unknown field "spec.fps"'),
    "field at the wrong place": (with_(width=640), 'unknown field "spec.width"'),
    "site as a name": (with_(site="North Gate"), f'spec.site: Invalid value: "string": {LABEL}'),
    "text for a switch": (
        with_(suspend="yes"),
        'spec.suspend: Invalid value: "string": spec.suspend in body must be of type boolean',
    ),
    "profile by its bare name": (
        with_(profileRef="north"),
        'spec.profileRef: Invalid value: "string": spec.profileRef in body must be of type object',
    ),
    "profile's name": (
        with_(profileRef={"name": "North"}),
        f'spec.profileRef.name: Invalid value: "string": {LABEL}',
    ),
    "many detectors": (
        with_(inference={"detectors": ["yunet"] * 9}),
        "spec.inference.detectors: Too many: 9: must have at most 8 items",
    ),
    "huge field": (with_(image="a" * 100_000), "spec.image: Too long: may not be more than 512 bytes"),
    "image with a space": (
        with_(image="worker: 1"),
        "must be the name of a container image, such as registry.example/team/worker:1.2",
    ),
}
BAD_NAMES = {
    "upper case": ("Gate", f'metadata.name: Invalid value: "object": {LABEL}'),
    "dot": ("gate.north", f'metadata.name: Invalid value: "object": {LABEL}'),
    "hyphen at the end": ("gate-", f'metadata.name: Invalid value: "object": {LABEL}'),
    "too long": ("g" * 64, "metadata.name: Too long: may not be more than 63 bytes"),
    "none": ("", "name or generateName is required"),
}


@pytest.mark.parametrize("mistake", BAD_SPECS)
def test_bad_spec(api: CrdApi, mistake: str) -> None:
    spec, expected = BAD_SPECS[mistake]
    answer = api.create(camera(spec), dry=False)
    assert not answer.accepted
    assert expected in answer.message
    assert CANARY not in str(answer.body)


@pytest.mark.parametrize("mistake", BAD_NAMES)
def test_bad_name(api: CrdApi, mistake: str) -> None:
    name, expected = BAD_NAMES[mistake]
    for document in (camera(name=name), profile({}, name=name)):
        answer = api.create(document, dry=False)
        assert not answer.accepted
        assert expected in answer.message


def test_the_name_of_a_profile_and_its_fields(api: CrdApi) -> None:
    answer = api.create(profile({"source": {"testPattern": {}}}))
    assert not answer.accepted and 'unknown field "spec.source"' in answer.message
    answer = api.create(profile({"stream": {"quality": 0}}))
    assert not answer.accepted and "spec.stream.quality in body should be greater than" in answer.message


def test_kubectl_shows_no_password(plane: ControlPlane) -> None:
    text = yaml.safe_dump(camera(rtsp(f"rtsp://admin:{CANARY}@10.0.0.5/live")))
    for arguments in (("apply",), ("apply", "--server-side"), ("create",)):
        shown = plane.kubectl(*arguments, "-f", "-", stdin=text, check=False)
        assert shown.count("\n") <= 2, "one line that can be read"
        assert 'The Camera "gate" is invalid' in shown or 'Camera.camfleet.io "gate" is invalid' in shown
        assert "spec.source.rtsp.url" in shown and "put them into a Secret" in shown
        assert CANARY not in shown


def test_nothing_bad_was_stored(api: CrdApi) -> None:
    assert api.plane.items("/apis/camfleet.io/v1alpha1/cameras") == []


def test_the_kind_of_source_may_change(api: CrdApi) -> None:
    """A camera that is replaced by another model keeps its name, its history and its viewers."""
    assert api.create(camera(name="swapped"), dry=False).accepted
    path = "/apis/camfleet.io/v1alpha1/namespaces/default/cameras/swapped"
    try:
        source = {"testPattern": None, "rtsp": {"url": "rtsp://10.0.0.5/live"}}
        api.plane.patch(path, {"spec": {"source": source}})
        found = api.plane.get(path)
        assert found is not None and found["spec"]["source"] == {"rtsp": {"url": "rtsp://10.0.0.5/live"}}
    finally:
        api.plane.delete(path)
