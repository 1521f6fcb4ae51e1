"""The view of events: filtered, live, without jumps, one of them in full, and what people say of a face."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from page_faces import seen, thing
from page_probe import CONTRAST, NAMELESS
from page_site import Pages, Site, eventually
from page_tokens import sign_in, tokens_file
from playwright.sync_api import Page, Route, expect

from support.require import model_dir

pytestmark = pytest.mark.browser

expect.set_options(timeout=60_000)

LOBBY, YARD = "default.lobby", "default.yard"
COUNT_BLOBS = """
window.blobs = {made: 0, held: new Set()};
const [make, revoke] = [URL.createObjectURL, URL.revokeObjectURL];
URL.createObjectURL = (blob) => {
  const url = make(blob);
  window.blobs.made += 1;
  window.blobs.held.add(url);
  return url;
};
URL.revokeObjectURL = (url) => { window.blobs.held.delete(url); revoke(url); };
"""


def card(page: Page, event_id: str) -> Any:
    """One event of the list."""
    return page.locator(f'.event-card[data-id="{event_id}"]')


def stored(site: Site, count: int, **headers: str) -> None:
    """Wait until so many appearances are stored."""

    def enough() -> bool:
        answer = httpx.get(f"{site.url}/api/events?type=appearance&limit=500", headers=headers, timeout=60)
        return len(answer.json()["events"]) >= count

    eventually(enough, f"{count} events")


def test_list_filters_and_pages(site: Site, pages: Pages) -> None:
    lobby, yard = site.add("lobby", fps=2), site.add("yard", fps=2)
    lobby.events.extend([thing(LOBBY, number, age=600.0 - number) for number in range(60)])
    yard.events.append(thing(YARD, 60, label="car", age=2 * 3600.0))
    stored(site, 61)
    page = pages.open("about:blank")
    page.add_init_script(COUNT_BLOBS)
    page.goto(f"{site.url}/#/events")
    expect(card(page, "thing-59")).to_contain_text("Person")
    expect(card(page, "thing-59").locator("img")).to_be_visible()
    page.wait_for_function("document.querySelector('.event-card img').naturalWidth === 96")
    assert (
        page.evaluate(
            "performance.getEntriesByType('resource').filter((e) => e.name.includes('blob:')).length"
        )
        >= 0
    )
    expect(card(page, "thing-0")).to_have_count(0)
    page.keyboard.press("End")
    expect(card(page, "thing-0")).to_have_count(1)  # the second part came by scrolling
    ids = page.evaluate("[...document.querySelectorAll('.event-card')].map((e) => e.dataset.id)")
    wanted = [f"thing-{number}" for number in [*range(59, -1, -1), 60]]
    assert [i for i in ids if i.startswith("thing")] == wanted, "newest first"

    page.wait_for_function("window.blobs.made >= 20")
    page.wait_for_function("window.blobs.held.size <= 6")  # memory is given back once a picture is shown

    page.get_by_label("Camera", exact=True).select_option(YARD)
    expect(card(page, "thing-60")).to_contain_text("Car")
    expect(card(page, "thing-59")).to_have_count(0)
    assert "camera=default.yard" in page.url, "a filter can be passed on"
    page.get_by_label("Time", exact=True).select_option("1h")
    expect(page.locator(".empty")).to_contain_text("No event fits")
    page.get_by_role("button", name="Show all events").click()
    expect(card(page, "thing-59")).to_be_visible()
    page.get_by_label("What").select_option("kind=object")
    page.get_by_label("What").select_option("kind=face")
    expect(page.locator(".empty")).to_contain_text("No event fits")
    for key, heading in (("3", "People"), ("4", "Alerts"), ("2", "Events")):
        page.locator("main").focus()
        page.keyboard.press(key)
        expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        expect(page.locator('.place[aria-current="page"]')).to_contain_text(heading)


ODD = [
    {"time": 1e300, "data": {"zones": "hall", "label": 5, "person": {"id": {}}}},
    {"time": 9e12, "label": "", "data": {"zones": [None, {"name": 7}], "label": 5, "started": 1e300}},
    {"type": "alert", "message": "", "data": {"when": 5, "rule": {}, "event_id": {}}},
]


def test_odd_data_breaks_no_list(site: Site, pages: Pages) -> None:
    """The gateway lets no such thing in; what an older one has stored must not hide all the rest."""
    lobby = site.add("lobby", fps=2)
    lobby.events.append(thing(LOBBY, 1, age=5.0))
    stored(site, 1)
    page = pages.open("about:blank")

    def answer(route: Route) -> None:
        found = route.fetch()
        body = found.json()
        model = next(each for each in body["events"] if each["id"] == "thing-1")
        body["events"][:0] = [{**model, "id": f"odd-{number}", **odd} for number, odd in enumerate(ODD)]
        route.fulfill(response=found, json=body)

    page.route("**/api/events?*", answer)
    page.route("**/api/events/odd-*", lambda route: route.fulfill(status=404, json={"error": {}}))
    page.goto(f"{site.url}/#/events")
    expect(card(page, "thing-1")).to_contain_text("Person")
    for number in range(len(ODD)):
        expect(card(page, f"odd-{number}")).to_be_visible()
    card(page, "odd-1").click()
    expect(page.get_by_role("dialog")).to_contain_text("Jump to live")


def test_live_without_jumps(site: Site, pages: Pages) -> None:
    lobby = site.add("lobby", fps=2)
    lobby.events.extend([thing(LOBBY, number, age=600.0 - number) for number in range(48)])
    stored(site, 48)
    page = pages.open(f"{site.url}/#/events?camera={LOBBY}", viewport={"width": 800, "height": 600})
    expect(card(page, "thing-47")).to_be_visible()
    lobby.events.append(thing(LOBBY, 50))
    expect(page.locator(".event-card").first).to_have_attribute("data-id", "thing-50")  # at the top: at once
    expect(card(page, "thing-50")).to_contain_text("In view")

    page.evaluate("scrollTo(0, 900)")
    place = "document.querySelector('[data-id=thing-20]').getBoundingClientRect().top"
    before = page.evaluate(place)
    lobby.events.extend([thing(LOBBY, 51, label="car"), thing(LOBBY, 52, label="dog")])
    expect(page.get_by_role("button", name="2 new events")).to_be_visible()
    assert abs(page.evaluate(place) - before) < 60, "only the button came, above"
    assert card(page, "thing-52").count() == 0
    page.get_by_role("button", name="2 new events").click()
    expect(page.locator(".event-card").first).to_have_attribute("data-id", "thing-52")

    focused = "document.activeElement.dataset.id"
    card(page, "thing-50").focus()
    began = httpx.get(f"{site.url}/api/events/thing-50", timeout=60).json()["data"]["started"]
    ended = thing(
        LOBBY, 50, revision=3, ended=began + 65, seen=began + 65, zones=[{"name": "door", "seconds": 4}]
    )
    lobby.events.append(ended)
    expect(card(page, "thing-50")).to_contain_text("1 min")
    expect(card(page, "thing-50")).to_contain_text("door")
    expect(card(page, "thing-50")).not_to_contain_text("In view")
    assert page.evaluate(focused) == "thing-50", "a later revision changes the card, not the focus"
    assert page.locator('[data-id="thing-50"]').count() == 1


def test_details_back_and_delete(make_site: Callable[..., Site], pages: Pages, tmp_path: Path) -> None:
    tokens = tokens_file(tmp_path / "tokens.yaml")
    site = make_site(tokens_file=str(tmp_path / "tokens.yaml"))
    lobby = site.add("lobby", fps=2)
    admin = {"Authorization": f"Bearer {tokens['admin']}"}
    lobby.events.extend([thing(LOBBY, number, age=60.0 - number) for number in range(3)])
    stored(site, 3, **admin)
    page = pages.open(f"{site.url}/#/events")
    sign_in(page, tokens["viewer"])
    card(page, "thing-1").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Found as")
    expect(dialog.locator(".crop img")).to_be_visible()  # fetched with the token
    assert dialog.get_by_role("button", name="Delete event").count() == 0
    page.keyboard.press("ArrowLeft")
    expect(dialog).to_contain_text("thing-2")
    page.go_back()
    expect(dialog).to_be_hidden()
    assert page.url.endswith("#/events")
    card(page, "thing-0").click()
    dialog.get_by_role("link", name="Jump to live").click()
    page.wait_for_selector(".view-picture")
    expect(page.locator(".details")).to_contain_text("Recognition")
    page.set_viewport_size({"width": 800, "height": 900})
    place = page.locator(".view-picture").bounding_box()
    assert place and place["width"] > 600 and place["height"] > 300, "the picture is there on a tablet, too"
    page.set_viewport_size({"width": 1280, "height": 800})

    page.get_by_role("button", name="Sign out").click()
    sign_in(page, tokens["admin"])
    page.get_by_role("link", name="Events", exact=True).click()
    card(page, "thing-0").click()
    dialog.get_by_role("button", name="Delete event").click()
    page.get_by_role("dialog", name="Delete this event?").get_by_role("button", name="Delete").click()
    expect(card(page, "thing-0")).to_have_count(0)
    expect(card(page, "thing-1")).to_be_visible()
    assert httpx.get(f"{site.url}/api/events/thing-0", headers=admin, timeout=60).status_code == 404


def test_this_is_and_is_not(make_site: Callable[..., Site], pages: Pages) -> None:
    site = make_site(model_dir=str(model_dir()))
    lobby = site.add("lobby", fps=2)
    lobby.events.append(seen(LOBBY, 1, "biden.jpg"))
    stored(site, 1)
    page = pages.open(f"{site.url}/#/events?event=seen-1")
    dialog = page.locator("dialog.event-detail")
    expect(dialog).to_contain_text("Unknown face")
    expect(dialog.locator(".scene img")).to_be_visible()
    drawer = (other := pages.open(site.url)).locator("#events")
    other.get_by_role("main").wait_for()
    other.keyboard.press("e")
    expect(drawer).to_contain_text("Unknown face")
    dialog.get_by_role("button", name="This is…").click()
    picker = page.locator("dialog.picker")
    expect(picker).to_contain_text("Nobody is enrolled yet")
    picker.get_by_text("Somebody new").click()
    picker.get_by_label("Name", exact=True).fill("Joseph")
    picker.get_by_role("button", name="Add as a new person").click()
    expect(dialog.get_by_role("heading")).to_have_text("Joseph")
    people = httpx.get(f"{site.url}/api/people", timeout=60).json()["people"]
    assert [(person["name"], person["faces"]) for person in people] == [("Joseph", 1)]
    assert page.evaluate(NAMELESS) == [] and page.evaluate(CONTRAST) == []
    expect(drawer).to_contain_text("Joseph")
    theirs = pages.open(f"{site.url}/#/events?person={people[0]['id']}").locator(".event-card")
    expect(theirs).to_contain_text("Joseph")

    def listening() -> bool:
        viewers = httpx.get(f"{site.url}/streaming/debug", timeout=60).json()["viewers"]
        return [viewer["kind"] for viewer in viewers].count("events") == 2

    eventually(listening, "both lists of events hear of what happens")
    dialog.get_by_role("button", name="Not Joseph").click()
    expect(dialog.get_by_role("heading")).not_to_have_text("Joseph")
    for place in (drawer, theirs):  # who looks elsewhere is told of it, also where it was found by the name
        expect(place).to_contain_text("Unknown face")
        expect(place).not_to_contain_text("Joseph")
    eventually(
        lambda: httpx.get(f"{site.url}/api/events/seen-1", timeout=60).json()["person"] is None, "nobody"
    )


def test_an_answer_that_is_cut_off_is_none(make_site: Callable[..., Site], pages: Pages) -> None:
    page = pages.open(make_site().url)
    page.route(
        "**/api/cut",
        lambda route: route.fulfill(status=200, content_type="application/json", body='{"id": "thing'),
    )
    said = page.evaluate(
        """async () => {
            const { call } = await import("/static/js/api.js");
            try { await call("GET", "/api/cut"); return "taken"; }
            catch (error) { return `${error.name} ${error.code}`; }
        }"""
    )
    assert said == "ApiError unreachable"
