"""Camera and CameraProfile: what is accepted, what is refused, and in which words."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from camfleet_protocol.camera import Camera, CameraProfile, InvalidObjectError, SourceType, parse_object


def camera(spec: str, metadata: str = "{name: lobby}", extra: str = "") -> Any:
    return yaml.safe_load(
        f"apiVersion: camfleet.io/v1alpha1\nkind: Camera\nmetadata: {metadata}\nspec: {spec}\n{extra}"
    )


GOOD: dict[str, tuple[str, SourceType, str]] = {
    "rtsp": (
        "{source: {rtsp: {url: 'rtsp://10.0.0.5:554/live/0?subtype=1', transport: tcp,"
        " detectUrl: 'rtsp://10.0.0.5/sub', credentialsSecretRef: {name: lobby-login}}}}",
        SourceType.RTSP,
        "rtsp://10.0.0.5:554/live/0?subtype=1",
    ),
    "rtsps, IPv6": (
        "{source: {rtsp: {url: 'rtsps://[fd00::5]:322/a'}}}",
        SourceType.RTSP,
        "rtsps://[fd00::5]:322/a",
    ),
    "http": (
        "{source: {http: {url: 'https://cam.example/mjpg'}}}",
        SourceType.HTTP,
        "https://cam.example/mjpg",
    ),
    "file": ("{source: {file: {path: media/lobby.mp4, loop: false}}}", SourceType.FILE, "media/lobby.mp4"),
    "device": ("{source: {device: {path: /dev/video0}}}", SourceType.DEVICE, "/dev/video0"),
    "test pattern, empty": ("{source: {testPattern: {}}}", SourceType.TEST_PATTERN, "test pattern"),
    "everything": (
        "{source: {testPattern: {width: 640, height: 480, fps: 10}}, profileRef: {name: doors},"
        " suspend: false, inference: {enabled: true, detectors: [yunet, motion], fps: 5, confidence: 0.5,"
        " faceRecognition: {enabled: false}, backend: auto, engine: my-engine},"
        " stream: {fps: 12.5, width: 0, quality: 80},"
        " gpu: {mode: Preferred, resourceName: nvidia.com/gpu, count: 1}, image: 'registry.example/worker:1',"
        " resources: {requests: {cpu: 500m, memory: 256Mi}, limits: {memory: 1Gi}},"
        " placement: {nodeSelector: {zone: a}, tolerations: [{key: gpu, operator: Exists}],"
        " affinity: {nodeAffinity: {}}, priorityClassName: cameras},"
        " health: {firstFrameTimeoutSeconds: 30, stallTimeoutSeconds: 10, frozenTimeoutSeconds: 0,"
        " reassignment: Never},"
        " site: yard}",
        SourceType.TEST_PATTERN,
        "test pattern",
    ),
}

LABEL = (
    "must be a DNS label: at most 63 lower-case letters, digits and '-', with a letter or digit at both ends"
)
EXACTLY_ONE = "spec.source: exactly one of rtsp, http, file, device, testPattern must be given, not "
USERINFO = "the URL has a user or password in it; put them into a Secret and name it in credentialsSecretRef"
BAD: dict[str, tuple[Any, list[str]]] = {
    "no object": ("text", ["this is not an object with apiVersion, kind, metadata and spec"]),
    "a list": ([], ["this is not an object with apiVersion, kind, metadata and spec"]),
    "nothing in it": (
        {},
        ["apiVersion is missing", "kind is missing", "metadata is missing", "spec is missing"],
    ),
    "another kind": (
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {}},
        ["kind must be Camera or CameraProfile"],
    ),
    "another version": (
        {**camera("{source: {testPattern: {}}}"), "apiVersion": "camfleet.io/v9"},
        ["apiVersion: Input should be 'camfleet.io/v1alpha1'"],
    ),
    "no source": (camera("{}"), ["spec.source: is missing"]),
    "empty source": (camera("{source: {}}"), [EXACTLY_ONE + "0"]),
    "two sources": (
        camera("{source: {testPattern: {}, file: {path: a.mp4}}}"),
        [EXACTLY_ONE + "2"],
    ),
    "unknown field": (camera("{source: {testPattern: {}}, sauce: {}}"), ["spec.sauce: no such field"]),
    "unknown field deep down": (
        camera("{source: {rtsp: {url: 'rtsp://h/a', pasword: hunter2}}}"),
        ["spec.source.rtsp.pasword: no such field"],
    ),
    "password in the URL": (
        camera("{source: {rtsp: {url: 'rtsp://admin:hunter2@cam/live'}}}"),
        [f"spec.source.rtsp.url: {USERINFO}"],
    ),
    "password with an @ in the URL": (
        camera("{source: {rtsp: {url: 'rtsp://admin:hunter2@x@cam/live'}}}"),
        [f"spec.source.rtsp.url: {USERINFO}"],
    ),
    "user in the second URL": (
        camera("{source: {rtsp: {url: 'rtsp://cam/a', detectUrl: 'rtsp://hunter2@cam/b'}}}"),
        [f"spec.source.rtsp.detectUrl: {USERINFO}"],
    ),
    "wrong scheme": (
        camera("{source: {rtsp: {url: 'file:///etc/hunter2'}}}"),
        ["spec.source.rtsp.url: the URL must start with rtsp:// or rtsps://"],
    ),
    "no host": (
        camera("{source: {rtsp: {url: 'rtsp:///hunter2'}}}"),
        ["spec.source.rtsp.url: the URL has no host"],
    ),
    "bad port": (
        camera("{source: {rtsp: {url: 'rtsp://cam:hunter2/'}}}"),
        ["spec.source.rtsp.url: the port of the URL is not a number from 1 to 65535"],
    ),
    "host in the brackets of an IPv6 address": (
        camera("{source: {rtsp: {url: 'rtsp://[10.0.0.5]/'}}}"),
        ["spec.source.rtsp.url: the host of the URL is neither a name nor an address"],
    ),
    "port out of range": (
        camera("{source: {rtsp: {url: 'rtsp://[::1]:65536/'}}}"),
        ["spec.source.rtsp.url: the port of the URL is not a number from 1 to 65535"],
    ),
    "no scheme": (
        camera("{source: {rtsp: {url: 10.0.0.5/live}}}"),
        ["spec.source.rtsp.url: the URL must start with rtsp:// or rtsps://"],
    ),
    "up and out": (
        camera("{source: {file: {path: clips/../../a.mp4}}}"),
        ["spec.source.file.path: must not go up with '..'"],
    ),
    "absolute in a claim": (
        camera("{source: {file: {path: /a.mp4, claimName: clips}}}"),
        [
            "spec.source.file: with claimName the path starts at the root of the claim, "
            "so it has no '/' in front"
        ],
    ),
    "space in URL": (
        camera("{source: {rtsp: {url: 'rtsp://cam/hunter2 a'}}}"),
        [
            "spec.source.rtsp.url: "
            "the URL has whitespace, control or non-ASCII characters; percent-encode them"
        ],
    ),
    "upper-case name": (
        camera("{source: {testPattern: {}}}", "{name: Hunter2}"),
        ["metadata.name: " + LABEL],
    ),
    "name with a dot": (
        camera("{source: {testPattern: {}}}", "{name: a.b}"),
        ["metadata.name: " + LABEL],
    ),
    "odd width": (
        camera("{source: {testPattern: {width: 641}}}"),
        ["spec.source.testPattern.width: Input should be a multiple of 2"],
    ),
    "device outside /dev": (
        camera("{source: {device: {path: /etc/hunter2}}}"),
        ["spec.source.device.path: must be a path under /dev, such as /dev/video0"],
    ),
    "several at once": (
        camera(
            "{source: {testPattern: {}}, stream: {quality: 0, fps: .inf},"
            " inference: {confidence: 1.5, fps: 0}}"
        ),
        [
            "spec.inference.fps: Input should be greater than or equal to 0.1",
            "spec.inference.confidence: Input should be less than or equal to 1",
            "spec.stream.fps: Input should be a finite number",
            "spec.stream.quality: Input should be greater than or equal to 1",
        ],
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_good(name: str) -> None:
    text, kind, description = GOOD[name]
    found = parse_object(camera(text))
    assert isinstance(found, Camera)
    assert found.id == "default.lobby"
    assert found.spec.source.type is kind
    assert found.spec.source.describe() == description
    again = found.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert parse_object(again) == found


def test_secret_and_namespace() -> None:
    found = parse_object(camera(GOOD["rtsp"][0], "{name: lobby, namespace: shop, resourceVersion: '7'}"))
    assert isinstance(found, Camera)
    assert found.id == "shop.lobby"
    assert found.spec.source.credentials_secret == "lobby-login"


def test_status_of_a_newer_operator_is_read() -> None:
    status = "status: {worker: {attempt: 2, podUID: u-1, zone: a}, conditions: [], novelty: 1}"
    found = parse_object(camera("{source: {testPattern: {}}}", extra=status))
    assert isinstance(found, Camera) and found.status.worker is not None
    assert (found.status.worker.attempt, found.status.worker.pod_uid) == (2, "u-1")


def test_profile() -> None:
    found = parse_object(
        {
            "apiVersion": "camfleet.io/v1alpha1",
            "kind": "CameraProfile",
            "metadata": {"name": "doors"},
            "spec": {"stream": {"fps": 5}},
        }
    )
    assert isinstance(found, CameraProfile)
    assert found.spec.stream is not None and found.spec.stream.width is None, "unset stays unset"


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str) -> None:
    document, expected = BAD[name]
    with pytest.raises(InvalidObjectError) as caught:
        parse_object(document)
    assert list(caught.value.problems) == expected
    assert "hunter2" not in str(caught.value).lower().replace("camera hunter2:", "")
    assert "hunter2" not in "".join(caught.value.problems).lower()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("source", "targets"),
    [
        (
            "rtsp: {url: 'rtsp://CAM.example/a', detectUrl: 'rtsp://cam.example:554/b'}",
            {"rtsp://cam.example:554"},
        ),
        ("rtsp: {url: 'rtsps://[fd00::5]/a'}", {"rtsps://[fd00::5]:322"}),
        (
            "rtsp: {url: 'rtsp://nat:554/a', detectUrl: 'rtsps://nat:554/a'}",
            {"rtsp://nat:554", "rtsps://nat:554"},
        ),
        ("http: {url: 'http://cam.example'}", {"http://cam.example:80"}),
        ("http: {url: 'https://cam.example/?a=1'}", {"https://cam.example:443"}),
        ("testPattern: {}", set()),
    ],
)
def test_where_a_password_is_sent_has_scheme_host_and_port(source: str, targets: set[str]) -> None:
    parsed = parse_object(camera(f"{{source: {{{source}}}}}"))
    assert parsed.spec.source.credential_targets == targets
