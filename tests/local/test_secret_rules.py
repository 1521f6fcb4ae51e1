"""Who may use which Secret: whoever may only add cameras has no stored password sent elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from camfleet_operator.local.secrets import secret_refusals
from camfleet_protocol.camera import Camera, parse_object
from camfleet_protocol.local import SPEC_DIGEST_ANNOTATION


def camera(
    name: str, host: str, *, secret: str | None = "login", from_file: bool, scheme: str = "rtsp"
) -> Camera:
    source: dict[str, Any] = {"url": f"{scheme}://{host}/live"}
    if secret:
        source["credentialsSecretRef"] = {"name": secret}
    parsed = parse_object(
        {
            "apiVersion": "camfleet.io/v1alpha1",
            "kind": "Camera",
            "metadata": {
                "name": name,
                "annotations": {SPEC_DIGEST_ANNOTATION: "x"} if from_file else {},
            },
            "spec": {"source": {scheme.removesuffix("s"): source}},
        }
    )
    assert isinstance(parsed, Camera)
    return parsed


FILE = camera("gate", "10.0.0.5:554", from_file=True)


@pytest.mark.parametrize(
    ("added", "hosts", "refused"),
    [
        (camera("evil", "10.6.6.6", from_file=False), "", True),
        (camera("evil", "10.6.6.6", secret=None, from_file=False), "", False),
        (camera("evil", "10.0.0.5", secret="other", from_file=False), "", True),
        (camera("same", "10.0.0.5", from_file=False), "", False),
        (camera("port", "10.0.0.5:8554", from_file=False), "", True),
        (camera("port", "10.0.0.5:8554", from_file=False), "10.0.0.5\n", False),
        (camera("clear", "10.0.0.5:554", scheme="http", from_file=False), "", True),
        (camera("tls", "10.0.0.5:554", scheme="rtsps", from_file=False), "", True),
        (camera("listed", "cam7.local", from_file=False), "cam6.local\n Cam7.local \n", False),
        (camera("any", "10.6.6.6", from_file=False), "*\n", False),
        (camera("mine", "10.6.6.6", from_file=True), "", False),
    ],
)
def test_a_secret_goes_only_to_its_hosts(added: Camera, hosts: str, refused: bool, tmp_path: Path) -> None:
    if hosts:
        (tmp_path / "secrets" / "login").mkdir(parents=True)
        (tmp_path / "secrets" / "login" / "hosts").write_text(hosts)
    refusals = secret_refusals({FILE.id: FILE, added.id: added}, tmp_path)
    assert (added.id in refusals) is refused
    assert FILE.id not in refusals
    if refused:
        assert "hosts" in refusals[added.id]
