"""By keyboard, on a phone, with names and contrast that everybody can use, and nothing from elsewhere."""

from __future__ import annotations

import httpx
import pytest
from page_probe import CONTRAST, NAMELESS, drawn, look, tile, wait_drawn
from page_site import Pages, Site, eventually
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

expect.set_options(timeout=60_000)


def test_keyboard(living: Site, pages: Pages) -> None:
    for name in ("a-one", "b-two", "c-three", "d-four"):
        living.add(name, fps=5)
    page = pages.open(living.url, viewport={"width": 1000, "height": 800})
    wait_drawn(page, tile("d-four"))

    def focused() -> str | None:
        name: str | None = page.evaluate("document.activeElement.dataset.camera ?? null")
        return name

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator(tile("a-one")).focus()
    for key, expected in (
        ("ArrowRight", "b-two"),
        ("ArrowDown", "d-four"),
        ("ArrowLeft", "c-three"),
        ("ArrowUp", "a-one"),
        ("End", "d-four"),
        ("Home", "a-one"),
    ):
        page.keyboard.press(key)
        assert focused() == f"default.{expected}", key
    assert page.locator('a.tile[tabindex="0"]').count() == 1, "one tab stop for the whole grid"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus can be seen"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    wait_drawn(page, ".view-picture")
    assert page.url.endswith("#/camera/default.b-two")
    page.keyboard.press("Escape")
    page.wait_for_selector(tile("b-two"))
    eventually(lambda: focused() == "default.b-two", "the focus is where it was")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Keyboard")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("three")
    expect(page.locator("a.tile:visible")).to_have_count(1)
    page.get_by_label("Search cameras by name or site").fill("nothing like it")
    page.get_by_role("button", name="Show all cameras").click()
    expect(page.locator("a.tile:visible")).to_have_count(4)


def test_narrow_phone(living: Site, pages: Pages) -> None:
    for name in ("lobby", "yard"):
        living.add(name)
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    page = pages.open(living.url, device_scale_factor=2, **phone)
    wait_drawn(page, tile("lobby"))
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0, "nothing hangs over the edge"
    boxes = [page.locator(tile(name)).bounding_box() for name in ("lobby", "yard")]
    assert boxes[0] and boxes[1]
    assert boxes[0]["x"] == boxes[1]["x"] and boxes[1]["y"] > boxes[0]["y"], "one column"
    page.locator(tile("lobby")).tap()
    wait_drawn(page, ".view-picture")
    assert look(page, ".view-picture")["ink"] is not None
    assert page.evaluate(wide) <= 0
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, .back, input[type=range], select")]
          .filter((e) => e.checkVisibility())
          .map((e) => [e.ariaLabel || e.textContent || e.id, e.getBoundingClientRect()])
          .filter(([, r]) => r.height < 32 || r.width < 32).map(([name]) => name)"""
    )
    assert small == [], "targets a thumb can hit"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_and_contrast(living: Site, pages: Pages, scheme: str) -> None:
    worker = living.add("lobby", site="yard")
    living.declare("gone")
    page = pages.open(living.url, color_scheme=scheme, viewport={"width": 1280, "height": 1000})
    wait_drawn(page, tile("lobby"))
    worker.events.append(
        {"id": "e-1", "time": 1.0, "camera": "default.lobby", "type": "source.lost", "message": "Gone."}
    )
    page.keyboard.press("e")
    expect(page.locator("#events .event")).not_to_have_count(0)
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(CONTRAST) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Add camera").click()
    page.get_by_role("dialog").get_by_role("button", name="Add camera").click()
    expect(page.locator(".field-error").first).to_be_visible()
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(CONTRAST) == []
    page.keyboard.press("Escape")
    page.locator(tile("lobby")).click()
    wait_drawn(page, ".view-picture")
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("document.querySelectorAll('[id]').length") == page.evaluate(
        "new Set([...document.querySelectorAll('[id]')].map((e) => e.id)).size"
    ), "ids are unique"


def test_theme_is_chosen_and_remembered(living: Site, pages: Pages) -> None:
    living.declare("lobby")
    page = pages.open(living.url, color_scheme="light")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Dark theme").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark
    page.get_by_role("button", name="Light theme").click()
    assert page.evaluate(ground) == light


def test_reduced_motion(site: Site, pages: Pages) -> None:
    worker = site.add("lobby")
    worker.lose_source("x")
    page = pages.open(site.url, reduced_motion="reduce")
    page.wait_for_selector(tile("lobby"))
    animated = "(e) => getComputedStyle(e).animationName !== 'none'"
    moving = f"[...document.querySelectorAll('*')].filter({animated}).length"
    assert page.evaluate(moving) == 0


def test_everything_comes_from_the_gateway(site: Site, pages: Pages) -> None:
    """No external resource, no inline script or style; the policy of the answer forbids both."""
    answer = httpx.get(site.url, timeout=60)
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    site.add("lobby")
    page = pages.open("about:blank")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(site.url)
    wait_drawn(page, tile("lobby"), 2)
    assert asked and all(url.startswith((site.url, "blob:", "data:")) for url in asked)
    assert page.locator("[style]:not(input)").count() == 0
    assert drawn(page, tile("lobby")) >= 2
