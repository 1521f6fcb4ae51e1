"""Overlays, tokens of local workers, and files that are replaced whole."""

from __future__ import annotations

import base64
import hmac
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camfleet_protocol.camera import Camera
from camfleet_protocol.local import (
    Controls,
    Overlay,
    StateFolder,
    WorkerIdentity,
    apply_overlay,
    sign_worker_token,
    spec_digest,
    verify_worker_token,
    write_atomic,
)

KEY = bytes(range(32))
IDENTITY = WorkerIdentity(camera="default.lobby", attempt=3, pod_uid="spawn-1")


def _camera(name: str = "lobby", **spec: Any) -> Camera:
    return Camera.model_validate(
        {"metadata": {"name": name}, "spec": {"source": {"testPattern": {}}, **spec}}
    )


# ── Overlay ─────────────────────────────────────────────────────────────────────────────────────────


def test_no_overlay() -> None:
    camera = _camera()
    assert apply_overlay(camera, None) is camera
    assert apply_overlay(camera, Overlay()) is camera
    assert apply_overlay(None, None) is None
    assert apply_overlay(None, Overlay()) is None


def test_controls_win_field_by_field_and_keep_the_rest() -> None:
    camera = _camera(stream={"fps": 5, "width": 320}, inference={"detectors": ["yunet", "motion"]})
    controls = {"suspend": True, "stream": {"fps": 2}, "inference": {"detectors": ["motion"]}}
    changed = apply_overlay(camera, Overlay(controls=Controls.model_validate(controls)))
    assert changed == _camera(
        stream={"fps": 2, "width": 320}, inference={"detectors": ["motion"]}, suspend=True
    )
    assert camera.spec.suspend is None


def test_added_through_the_api() -> None:
    added = _camera("gate")
    overlay = Overlay(camera=added, controls=Controls(suspend=True))
    assert apply_overlay(None, overlay) == _camera("gate", suspend=True)
    mine = _camera("gate", site="yard")
    assert apply_overlay(mine, Overlay(camera=added)) == mine, "the user's own file wins"


def test_deleted_until_the_file_changes() -> None:
    camera = _camera()
    overlay = Overlay(deleted_digest=spec_digest(camera))
    assert apply_overlay(camera, overlay) is None
    changed = _camera(site="yard")
    assert apply_overlay(changed, overlay) == changed


def test_overlay_round_trip() -> None:
    overlay = Overlay(camera=_camera(), controls=Controls(suspend=False), deleted_digest="0" * 64)
    text = overlay.model_dump_json(by_alias=True, exclude_none=True)
    assert Overlay.model_validate_json(text) == overlay


# ── Tokens ──────────────────────────────────────────────────────────────────────────────────────────


def test_token_round_trip() -> None:
    assert verify_worker_token(KEY, sign_worker_token(KEY, IDENTITY)) == IDENTITY
    assert verify_worker_token(bytes(32), sign_worker_token(KEY, IDENTITY)) is None


@given(st.data())
def test_a_changed_token_proves_nothing(data: st.DataObject) -> None:
    token = sign_worker_token(KEY, IDENTITY)
    position = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda c: c != token[position]))
    verified = verify_worker_token(KEY, token[:position] + other + token[position + 1 :])
    # The last character of each half carries unused bits: another spelling of the same bytes.
    assert verified in (None, IDENTITY)
    if position not in (token.index(".") - 1, len(token) - 1):
        assert verified is None


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_any_text_is_no_token(text: str) -> None:
    assert verify_worker_token(KEY, text) is None
    assert verify_worker_token(KEY, f"{text}.{text}") is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b"[" * 100_000,
        b'{"camera":"a","attempt":1}',
        b'{"camera":"a","attempt":"1","pod_uid":"u"}',
        b'{"camera":"a","attempt":true,"pod_uid":"u"}',
        b'{"camera":["a"],"attempt":1,"pod_uid":"u"}',
        b'{"camera":"a","attempt":-1,"pod_uid":"u"}',
    ],
)
def test_a_well_signed_oddity_proves_nothing(body: bytes) -> None:
    def b64(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    assert verify_worker_token(KEY, f"{b64(body)}.{b64(hmac.digest(KEY, body, 'sha256'))}") is None


# ── Files ───────────────────────────────────────────────────────────────────────────────────────────


def test_state_folder_is_private(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    state.create()
    key = state.worker_key.read_bytes()
    assert len(key) == 32
    assert stat.S_IMODE(state.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(state.worker_key.stat().st_mode) == 0o600
    state.create()
    assert state.worker_key.read_bytes() == key, "a second start keeps the key"


def test_write_atomic_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "object.json"
    write_atomic(path, b"one")
    write_atomic(path, b"two", mode=0o640)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["object.json"]
    with pytest.raises(TypeError):
        write_atomic(path, "text")  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["object.json"]
