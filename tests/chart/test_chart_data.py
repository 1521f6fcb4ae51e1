"""What the gateway keeps: where, under which key and for how long, by the chart."""

from __future__ import annotations

import base64
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from helm_chart import CHART, Helm, HelmError, Object, container_of, decode, find_object, parse, pod_of

from camfleet_gateway.settings import GatewaySettings
from camfleet_protocol.camera import CameraProfileSpec
from camfleet_protocol.vision import AlertWhen, BlurFaces

RECOGNITION = CHART / "ci" / "recognition-values.yaml"


def settings_of(objects: list[Object]) -> GatewaySettings:
    found = parse(GatewaySettings, container_of(objects, "gateway")["args"][1:])
    assert isinstance(found, GatewaySettings)
    return found


def defaults_of(objects: list[Object]) -> CameraProfileSpec:
    text = find_object(objects, "ConfigMap", "camfleet-defaults")["data"]["defaults.yaml"]
    return CameraProfileSpec.model_validate(yaml.safe_load(text))


def volumes_of(objects: list[Object]) -> dict[str, Any]:
    return {volume["name"]: volume for volume in pod_of(objects, "gateway")["spec"]["volumes"]}


def test_by_default_a_volume_and_a_key_are_made_and_kept(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAMFLEET_MODEL_DIR", raising=False)  # the pod has none, either
    objects = helm.template()
    claim = find_object(objects, "PersistentVolumeClaim", "camfleet-gateway-data")
    secret = find_object(objects, "Secret", "camfleet-data-key")
    for kept in (claim, secret):
        assert kept["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert "storageClassName" not in claim["spec"]
    assert len(base64.b64decode(decode(secret["data"]["key"]), validate=True)) == 32
    assert volumes_of(objects)["data"]["persistentVolumeClaim"] == {"claimName": "camfleet-gateway-data"}
    settings = settings_of(objects)
    assert (settings.retention_days, settings.retention_bytes) == (30, 10 * 1024**3)
    assert (settings.database_url_file, settings.milvus_url, settings.model_dir) == (None, None, None)
    assert defaults_of(objects).privacy.retention_days is None  # type: ignore[union-attr]


def test_everything_named_is_mounted_read_only_but_the_data(helm: Helm) -> None:
    objects = helm.template("--values", RECOGNITION)
    settings = settings_of(objects)
    mounts = {mount["mountPath"]: mount for mount in container_of(objects, "gateway")["volumeMounts"]}
    volumes = volumes_of(objects)
    named = (
        settings.key_file,
        settings.database_url_file,
        settings.milvus_token_file,
        settings.webhooks_file,
    )
    for file in named:
        assert file is not None
        mount = mounts[str(file.parent)]
        assert mount["readOnly"], file
        secret = volumes[mount["name"]]["secret"]
        assert secret["defaultMode"] == 0o440
        paths = {item["path"] for item in secret.get("items", [{"path": file.name}])}
        assert paths == {file.name}, "no other key of the Secret enters the pod"
    assert mounts["/models"]["readOnly"] and settings.model_dir == Path("/models")
    assert settings.data_dir is not None and "readOnly" not in mounts[str(settings.data_dir)]
    assert not [o for o in objects if o["kind"] == "Secret" and "key" in o["data"]], "a key is there already"
    assert PurePosixPath("/etc/camfleet/database/url") == PurePosixPath(str(settings.database_url_file))
    assert settings.milvus_url == "http://milvus.milvus.svc:19530"
    assert settings.retention_bytes == 40 * 1024**3


def test_cameras_get_privacy_and_alerts(helm: Helm) -> None:
    defaults = defaults_of(helm.template("--values", RECOGNITION))
    assert defaults.privacy is not None and defaults.alerts is not None
    assert (defaults.privacy.retention_days, defaults.privacy.blur_faces) == (14, BlurFaces.UNKNOWN)
    assert [(rule.name, rule.when) for rule in defaults.alerts] == [("offline", AlertWhen.CAMERA_OFFLINE)]


def test_without_a_volume_the_data_ends_with_the_pod(helm: Helm) -> None:
    objects = helm.template(values={"gateway.persistence.enabled": False})
    assert volumes_of(objects)["data"] == {"name": "data", "emptyDir": {}}
    assert not [o for o in objects if o["kind"] == "PersistentVolumeClaim"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"worker.inference.faceRecognition.enabled": True}, "needs worker.privacy.retentionDays"),
        ({"gateway.milvus.tokenSecret.name": "milvus"}, "goes with gateway.milvus.url"),
        ({"gateway.retention.bytes": "10 GB"}, "retention"),
        ({"gateway.milvus.url": "http://user:word@milvus:19530"}, "milvus"),
    ],
)
def test_what_does_not_fit_is_refused(helm: Helm, values: dict[str, Any], said: str) -> None:
    with pytest.raises(HelmError, match=said):
        helm.template(values=values)
