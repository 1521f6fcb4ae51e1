"""What people do on the page: tune, pause, add, remove, sign in."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from page_probe import tile, wait_drawn, wait_state
from page_site import Pages, Site, eventually
from page_tokens import sign_in, tokens_file
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

expect.set_options(timeout=60_000)


def camera(site: Site, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{site.url}/api/cameras/default.{name}", timeout=60).json()
    return answer


# ── One camera ──────────────────────────────────────────────────────────────────────────────────────


def test_controls_change_the_settings(living: Site, pages: Pages) -> None:
    living.add("lobby")
    page = pages.open(f"{living.url}/#/camera/default.lobby")
    wait_drawn(page, ".view-picture", 2)
    expect(page.get_by_label("Detection", exact=True)).to_be_checked()

    page.get_by_label("Detection", exact=True).click()
    eventually(lambda: camera(living, "lobby")["settings"]["inference"]["enabled"] is False, "AI off")
    expect(page.get_by_label("Detection", exact=True)).not_to_be_checked()
    page.get_by_label("Detection", exact=True).click()
    eventually(lambda: camera(living, "lobby")["settings"]["inference"]["enabled"] is True, "AI on")

    page.get_by_label("Motion").check(force=True)
    eventually(
        lambda: sorted(camera(living, "lobby")["settings"]["inference"]["detectors"]) == ["motion", "yunet"],
        "both detectors",
    )
    page.get_by_label("Width").select_option("1280")
    eventually(lambda: camera(living, "lobby")["settings"]["stream"]["width"] == 1280, "width")
    for label, block, field, key, expected in (
        ("Picture rate", "stream", "fps", "ArrowRight", 11),
        ("JPEG quality", "stream", "quality", "ArrowLeft", 75),
        ("Detection rate", "inference", "fps", "ArrowRight", 6),
        ("Minimum confidence", "inference", "confidence", "ArrowRight", 0.75),
    ):
        page.get_by_label(label, exact=True).press(key)
        eventually(
            lambda block=block, field=field, expected=expected: (
                camera(living, "lobby")["settings"][block][field] == pytest.approx(expected)
            ),
            label,
        )


def test_a_change_by_somebody_else_is_shown(living: Site, pages: Pages) -> None:
    living.add("lobby")
    page = pages.open(f"{living.url}/#/camera/default.lobby")
    wait_drawn(page, ".view-picture")
    done = httpx.patch(
        f"{living.url}/api/cameras/default.lobby", json={"stream": {"quality": 35}}, timeout=60
    )
    assert done.status_code == 200
    expect(page.get_by_label("JPEG quality")).to_have_value("35")


def test_pause_and_resume(living: Site, pages: Pages) -> None:
    living.add("lobby")
    page = pages.open(f"{living.url}/#/camera/default.lobby")
    wait_drawn(page, ".view-picture")
    page.get_by_role("button", name="Pause").click()
    page.wait_for_selector('.view-picture[data-state="suspended"]')
    assert camera(living, "lobby")["state"] == "suspended"
    page.get_by_role("button", name="Resume").click()
    page.wait_for_selector('.view-picture[data-state="live"]')
    wait_drawn(page, ".view-picture")


def test_details_and_events(living: Site, pages: Pages) -> None:
    worker = living.add("lobby", site="yard")
    page = pages.open(f"{living.url}/#/camera/default.lobby")
    wait_drawn(page, ".view-picture")
    expect(page.locator(".view-head")).to_contain_text("yard")
    expect(page.locator(".details")).to_contain_text(re.compile("640 . 360"))
    expect(page.locator(".details")).to_contain_text("Test pattern")
    event = {"id": "e-1", "time": 1.0, "camera": "default.lobby", "type": "source.lost", "message": "Gone."}
    worker.events.append({**event, "severity": "warning"})
    expect(page.locator(".view .event[data-severity=warning]")).to_contain_text("Source lost")
    page.keyboard.press("e")
    expect(page.locator("#events .event[data-id=e-1]")).to_contain_text("lobby")
    page.reload()
    expect(page.locator(".view .event[data-id=e-1]")).to_contain_text("Gone.")


def test_snapshot_is_downloaded(living: Site, pages: Pages, tmp_path: Path) -> None:
    living.add("lobby")
    page = pages.open(f"{living.url}/#/camera/default.lobby")
    wait_drawn(page, ".view-picture")
    page.keyboard.press("b")  # the picture alone
    with page.expect_download() as download:
        page.get_by_role("button", name="Save a snapshot").click()
    assert download.value.suggested_filename == "lobby.jpg"
    path = tmp_path / "snapshot.jpg"
    download.value.save_as(path)
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape == (360, 640, 3)


def test_deep_link_back_and_unknown(living: Site, pages: Pages) -> None:
    living.add("lobby")
    page = pages.open(f"{living.url}/#/camera/default.lobby")
    wait_drawn(page, ".view-picture")
    assert page.title() == "lobby · Camfleet"
    page.get_by_role("link", name="Back to all cameras").click()
    wait_drawn(page, tile("lobby"))
    page.go_back()
    wait_drawn(page, ".view-picture")
    page.goto(f"{living.url}/#/camera/default.nothing")
    expect(page.locator(".view")).to_contain_text("There is no such camera")
    page.goto(f"{living.url}/#/camera/%3Cimg%20src=x%20onerror=alert(1)%3E")
    expect(page.locator(".view")).to_contain_text("There is no such camera")
    assert page.locator(".view img").count() == 0


# ── Add and remove ──────────────────────────────────────────────────────────────────────────────────


def test_add_and_remove_a_camera(living: Site, pages: Pages) -> None:
    page = pages.open(living.url)
    expect(page.locator(".empty")).to_contain_text("No cameras yet")
    expect(page.locator(".empty")).to_contain_text("kind: Camera")
    page.get_by_role("button", name="Add a camera").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill("attic")
    dialog.get_by_text("Test pattern").click()
    dialog.get_by_label("Site").fill("upstairs")
    dialog.get_by_role("button", name="Add camera").click()
    wait_state(page, "attic", "offline")
    found = camera(living, "attic")
    assert (found["source_type"], found["site"]) == ("testPattern", "upstairs")

    page.locator(tile("attic")).click()
    page.get_by_role("button", name="Remove camera").click()
    page.get_by_role("button", name="Keep").click()
    assert camera(living, "attic")["name"] == "attic"
    page.get_by_role("button", name="Remove camera").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove", exact=True).click()
    expect(page.locator(".empty")).to_contain_text("No cameras yet")
    assert httpx.get(f"{living.url}/api/cameras", timeout=60).json()["total_cameras"] == 0


def test_mistakes_are_shown_at_their_fields(living: Site, pages: Pages) -> None:
    living.declare("lobby")
    page = pages.open(living.url)
    page.get_by_role("button", name="Add camera").click()
    dialog = page.get_by_role("dialog")
    submit = dialog.get_by_role("button", name="Add camera")
    submit.click()
    expect(dialog.locator("#field-metadata-name-error")).to_have_text("Please fill this in")
    dialog.get_by_label("Name", exact=True).fill("Front Door")
    dialog.get_by_label("Address").fill("rtsp://admin:hunter2@cam/live")
    submit.click()
    expect(dialog.locator("#field-metadata-name-error")).to_contain_text("Only small letters")
    expect(dialog.locator("#field-spec-source-rtsp-url-error")).to_contain_text("user or password in it")
    expect(dialog.get_by_label("Address")).to_have_attribute("aria-invalid", "true")
    dialog.get_by_label("Name", exact=True).fill("lobby")
    dialog.get_by_label("Address").fill("rtsp://cam/live")
    expect(dialog.locator("#field-spec-source-rtsp-url-error")).to_be_hidden()
    submit.click()
    expect(dialog.locator("#field-metadata-name-error")).to_have_text(
        "There is a camera of this name already"
    )
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


# ── Signing in ──────────────────────────────────────────────────────────────────────────────────────


def test_sign_in_with_a_token(make_site: Callable[..., Site], pages: Pages, tmp_path: Path) -> None:
    tokens = tokens_file(tmp_path / "tokens.yaml")
    site = make_site(tokens_file=str(tmp_path / "tokens.yaml"))
    site.add("lobby")
    page = pages.open(site.url)
    sign_in(page, "cft_wrong")
    expect(page.get_by_role("alert")).to_have_text("This token is not valid")
    sign_in(page, tokens["viewer"])
    wait_drawn(page, tile("lobby"), 2)
    assert tokens["viewer"] not in page.url
    page.reload()
    wait_drawn(page, tile("lobby"), 2)

    expect(page.get_by_role("button", name="Add camera")).to_be_hidden()
    page.locator(tile("lobby")).click()
    wait_drawn(page, ".view-picture")
    assert page.locator(".controls").count() == 0
    assert page.get_by_role("button", name="Pause").count() == 0
    with page.expect_download():
        page.get_by_role("button", name="Save a snapshot").click()

    page.get_by_role("button", name="Sign out").click()
    sign_in(page, tokens["operator"])
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    assert page.locator(".controls").count() == 1
    assert page.get_by_role("button", name="Remove camera").count() == 0
    expect(page.get_by_role("button", name="Add camera")).to_be_hidden()

    page.get_by_role("button", name="Sign out").click()
    sign_in(page, tokens["admin"])
    expect(page.get_by_role("button", name="Add camera")).to_be_visible()
    expect(page.get_by_role("button", name="Remove camera")).to_be_visible()


def test_a_withdrawn_token_leads_back_to_signing_in(
    make_site: Callable[..., Site], pages: Pages, tmp_path: Path
) -> None:
    tokens = tokens_file(tmp_path / "tokens.yaml")
    site = make_site(tokens_file=str(tmp_path / "tokens.yaml"))
    site.add("lobby")
    page = pages.open(site.url)
    sign_in(page, tokens["viewer"])
    wait_drawn(page, tile("lobby"))
    site.gateway.stop()
    tokens_file(tmp_path / "tokens.yaml")
    site.gateway.restart()
    expect(page.get_by_role("alert")).to_have_text("The token is no longer valid")
    expect(page.get_by_label("Access token")).to_be_visible()
