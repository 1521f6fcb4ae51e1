"""What is taken away from a running fleet by hand comes back, and nothing else notices."""

from __future__ import annotations

import shutil

import pytest

from support.fleet import Fleet, eventually

PATTERN = {
    "source": {"testPattern": {"width": 640, "height": 360, "fps": 15}},
    "inference": {"detectors": ["motion"]},
}

pytestmark = pytest.mark.e2e


def test_a_file_that_no_model_can_hold_is_refused_and_nothing_ends(fleet: Fleet) -> None:
    before = {p.pid for p in fleet.processes()}
    head = (
        "apiVersion: camfleet.io/v1alpha1\nkind: Camera\nmetadata: {name: odd}\n"
        "spec:\n  source: {testPattern: {}}\n"
    )
    bomb = "\n".join(
        ["x0: &x0 [a, a, a, a, a, a, a, a, a]"]
        + [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 10)]
    )
    for name, text in (
        ("deep", head + "  placement: {affinity: " + "{a: " * 300 + "1" + "}" * 300 + "}\n"),
        ("self", head + "  placement: {affinity: &a {b: *a}}\n"),
        ("bytes", head + "  placement: {affinity: {a: !!binary gICA}}\n"),
        ("bomb", bomb),
    ):
        (fleet.folder / f"{name}.yaml").write_text(text)
        eventually(lambda name=name: f"{name}.yaml: " in fleet.log, f"{name} is refused")  # type: ignore[misc]
    fleet.write("late", PATTERN)
    fleet.wait_state("late", "live")
    assert before <= {p.pid for p in fleet.processes()}


def test_a_deleted_state_folder_is_made_again(fleet: Fleet) -> None:
    shutil.rmtree(fleet.state)
    eventually(lambda: (fleet.state / "objects" / "default.one.json").exists(), "the objects are back")
    for name in ("one", "two", "three"):
        fleet.wait_state(name, "live")
    # The folders are followed again within the ten seconds in which the runtime looks of itself.
    eventually(
        lambda: fleet.request("PATCH", "/api/cameras/one", json={"stream": {"fps": 5}}).status_code == 200,
        "controls work again",
    )


def test_a_deleted_token_is_written_again(fleet: Fleet) -> None:
    (fleet.state / "tokens" / "default.one").unlink()
    eventually((fleet.state / "tokens" / "default.one").exists, "the token is back")
    fleet.find("gateway").kill()
    eventually(fleet.answers, "the gateway is back")
    fleet.wait_state("one", "live")


def test_a_folder_that_is_replaced_is_followed(fleet: Fleet) -> None:
    away = fleet.folder.rename(fleet.folder.with_name("away"))
    eventually(lambda: "keeping what runs" in fleet.log, "the missing folder is told")
    assert {camera["state"] for camera in fleet.cameras().values()} == {"live"}
    fleet.folder.mkdir()
    for path in away.iterdir():
        shutil.copy(path, fleet.folder)
    eventually(lambda: "can be read again" in fleet.log, "the folder is back")
    fleet.write("late", PATTERN)
    fleet.wait_state("late", "live")


def test_a_stored_password_is_not_sent_where_it_is_not_meant_for(fleet: Fleet) -> None:
    secret = fleet.folder / "secrets" / "login"
    secret.mkdir(parents=True)
    (secret / "username").write_text("viewer")
    (secret / "password").write_text("c4nary-8842")
    source = {"rtsp": {"url": "rtsp://127.0.0.1:9/x", "credentialsSecretRef": {"name": "login"}}}
    assert (
        fleet.request("POST", "/api/cameras", json={"name": "evil", "spec": {"source": source}}).status_code
        == 201
    )
    camera = eventually(
        lambda: (c := fleet.cameras()["evil"])["reason"] == "SecretNotAllowed" and c, "it is refused"
    )
    assert "secrets/login/hosts" in camera["message"]
    assert not any("--camera=default.evil" in p.cmdline() for p in fleet.processes())
    (secret / "hosts").write_text("127.0.0.1\n")
    eventually(lambda: fleet.cameras()["evil"]["reason"] == "SourceRefused", "now it is tried")


def test_an_overlay_that_is_none_is_put_aside(fleet: Fleet) -> None:
    path = fleet.state / "overlay" / "default.one.json"
    path.write_text('{"camera": 5}')
    eventually(path.with_suffix(".bad").exists, "the overlay is put aside")
    assert not path.exists()
    eventually(lambda: fleet.log.count("not an overlay of this version") == 1, "it is told, once")
