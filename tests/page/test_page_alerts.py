"""Alerts on the page: told wherever one is, counted, seen to; and where a face was seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from page_faces import seen, thing
from page_probe import tile, wait_drawn
from page_site import Pages, Site, eventually
from page_tokens import sign_in, tokens_file
from playwright.sync_api import expect

from support.require import model_dir, sample

pytestmark = pytest.mark.browser

expect.set_options(timeout=60_000)

LOBBY = "default.lobby"
RULE = {"name": "door-watch", "when": "InZone", "zone": "door", "severity": "critical", "cooldownSeconds": 0}


def test_alerts_are_told_counted_and_acknowledged(
    make_site: Callable[..., Site], pages: Pages, tmp_path: Path
) -> None:
    tokens = tokens_file(tmp_path / "tokens.yaml")
    site = make_site(tokens_file=str(tmp_path / "tokens.yaml"))
    lobby = site.add("lobby", alerts=[RULE])
    page = pages.open(site.url)
    sign_in(page, tokens["operator"])
    wait_drawn(page, tile("lobby"))
    alerts = page.locator('.place[data-place="alerts"]')
    expect(alerts).to_have_accessible_name("Alerts")

    door = [{"name": "door", "seconds": 3}]
    lobby.events.append(thing(LOBBY, 1, age=4, zones=door))
    expect(page.locator(".toast[data-kind=alert]")).to_contain_text("lobby")
    expect(alerts).to_have_accessible_name("Alerts, 1 open")
    page.locator(".toast[data-kind=alert]").get_by_role("link", name="Show").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("door-watch")
    dialog.get_by_role("link", name="What raised it").click()
    expect(dialog).to_contain_text("thing-1")
    page.keyboard.press("Escape")

    alerts.click()
    cards = page.locator(".alert-card")
    expect(cards).to_have_count(1)
    expect(cards.locator("img")).to_be_visible()  # of what raised it
    lobby.events.append(thing(LOBBY, 2, age=4, zones=door))
    expect(cards).to_have_count(2)  # live
    cards.first.get_by_role("button", name="Acknowledge").click()
    expect(cards).to_have_count(1)
    expect(alerts).to_have_accessible_name("Alerts, 1 open")
    expect(cards.get_by_role("button", name="Acknowledge")).to_be_focused()  # on to the next one

    header = {"Authorization": f"Bearer {tokens['operator']}"}
    url = f"{site.url}/api/alerts"
    left = httpx.get(url, params={"acknowledged": "false"}, headers=header, timeout=60).json()["alerts"]
    assert len(left) == 1
    httpx.post(f"{url}/{left[0]['id']}/acknowledge", headers=header, timeout=60).raise_for_status()
    expect(page.locator(".empty")).to_contain_text("Nothing to see to")  # somebody else did
    expect(alerts).to_have_accessible_name("Alerts")
    page.get_by_role("button", name="All", exact=True).click()
    expect(cards).to_have_count(2)
    expect(cards.first).to_contain_text("Acknowledged by operator")
    page.get_by_label("Severity").select_option("info")
    expect(page.locator(".empty")).to_contain_text("No alert fits")
    page.get_by_role("button", name="Clear").click()
    expect(cards).to_have_count(2)
    page.get_by_label("Rule", exact=True).select_option("door-watch")
    expect(page.get_by_role("button", name="Clear")).to_be_visible()
    expect(cards).to_have_count(2)
    cards.first.get_by_role("link", name="Live").click()
    wait_drawn(page, ".view-picture")

    page.get_by_role("button", name="Sign out").click()
    sign_in(page, tokens["viewer"])
    page.goto(f"{site.url}/#/alerts?show=all")
    expect(cards).to_have_count(2)
    lobby.events.append(thing(LOBBY, 3, age=4, zones=door))
    expect(cards).to_have_count(3)
    assert page.get_by_role("button", name="Acknowledge").count() == 0, "a viewer only sees"
    eventually(lambda: page.get_by_role("link", name="Alerts, 1 open").count() == 1, "the badge")


RECOGNISES = {"inference": {"faceRecognition": {"enabled": True}}, "privacy": {"retentionDays": 7}}


def test_search_by_picture_and_from_an_event(make_site: Callable[..., Site], pages: Pages) -> None:
    site = make_site(model_dir=str(model_dir()))
    lobby, yard = (site.add(name, fps=2, **RECOGNISES) for name in ("lobby", "yard"))
    lobby.events.extend([seen(LOBBY, 1, "obama.jpg"), seen(LOBBY, 2, "biden.jpg")])
    yard.events.append(seen("default.yard", 3, "obama2.jpg"))

    def alike() -> list[str]:
        answer = httpx.get(f"{site.url}/api/faces/search", params={"event": "seen-3"}, timeout=60)
        return [face["event"]["id"] for face in answer.json().get("faces", [])]

    eventually(lambda: alike() == ["seen-1"], "the index follows the events", within=120)
    page = pages.open(f"{site.url}/#/search")
    expect(page.locator(".empty")).to_contain_text("Where was this face seen?")
    page.locator("#search-picture").set_input_files(sample("people/obama1.jpg"))
    found = page.locator(".search-view .event-card")
    expect(found).to_have_count(2)
    ids = [found.nth(index).get_attribute("data-id") for index in range(2)]
    assert sorted(ids) == ["seen-1", "seen-3"], "his faces, and no others"
    expect(found.first).to_contain_text("alike")
    expect(page.locator(".search-status")).to_contain_text("Searched in")
    page.get_by_label("Camera", exact=True).select_option("default.yard")
    expect(found).to_have_count(1)
    expect(found).to_have_attribute("data-id", "seen-3")

    found.click()
    page.get_by_role("dialog").get_by_role("link", name="Search this face").click()
    expect(page.locator(".search-source img")).to_be_visible()
    expect(found).to_have_count(1)
    expect(found).to_have_attribute("data-id", "seen-1")  # the event itself is left out
    page.get_by_label("Time", exact=True).select_option("range")
    page.get_by_label("Until", exact=True).fill("2020-01-01T00:00")
    page.get_by_label("Until", exact=True).blur()
    expect(page.locator(".empty")).to_contain_text("Not seen")
