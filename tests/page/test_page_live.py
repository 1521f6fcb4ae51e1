"""Live pictures in a real browser: they move, boxes stand where they belong, one socket carries them all."""

from __future__ import annotations

import time

import httpx
import pytest
from page_probe import drawn, fingerprint, look, tile, wait_drawn, wait_state
from page_site import Pages, Site, eventually

from support.stopwatch import Stopwatch

pytestmark = pytest.mark.browser


def test_pixels_change(site: Site, pages: Pages) -> None:
    site.add("lobby")
    page = pages.open(site.url)
    wait_state(page, "lobby", "live")
    wait_drawn(page, tile("lobby"))
    seen = set()

    def several() -> bool:
        seen.add(fingerprint(page, tile("lobby")))
        return len(seen) >= 4

    eventually(several, "four different pictures")


@pytest.mark.parametrize("ratio", [1, 2])
def test_boxes_stand_on_their_picture(site: Site, pages: Pages, ratio: int) -> None:
    site.add("lobby", fps=15)
    page = pages.open(site.url, device_scale_factor=ratio)
    for selector, path in ((tile("lobby"), "/"), (".view-picture", "/#/camera/default.lobby")):
        page.goto(site.url + path)
        wait_drawn(page, selector, 2)
        places = set()
        for _ in range(8):
            wait_drawn(page, selector)
            found = look(page, selector)
            block, ink = found["block"], found["ink"]
            assert block and ink
            width, height = found["overlay"]
            # Lines are some pixels wide and lie on the edge; the label hangs over at the top and the right.
            slack_x, slack_y = 4 * ratio / width + 0.008, 4 * ratio / height + 0.012
            assert ink[0] == pytest.approx(block[0], abs=slack_x), "left edge"
            assert ink[1] + ink[3] == pytest.approx(block[1] + block[3], abs=slack_y), "lower edge"
            assert ink[1] >= block[1] - 26 * ratio / height - slack_y, "only the label stands above"
            assert ink[0] + ink[2] >= block[0] + block[2] - slack_x, "reaches the right edge"
            places.add(tuple(block))
        assert len(places) >= 3, "the block moved, and its box with it"


def test_boxes_can_be_switched_off(site: Site, pages: Pages) -> None:
    site.add("lobby")
    page = pages.open(site.url)
    wait_drawn(page, tile("lobby"), 2)
    page.keyboard.press("b")
    assert look(page, tile("lobby"))["ink"] is None
    page.reload()
    wait_drawn(page, tile("lobby"), 2)
    assert look(page, tile("lobby"))["ink"] is None, "remembered"
    page.get_by_role("button", name="Boxes").click()
    wait_drawn(page, tile("lobby"), 1)
    assert look(page, tile("lobby"))["ink"] is not None


def test_sixteen_cameras_over_one_socket(site: Site, pages: Pages) -> None:
    workers = [site.add(f"cam-{number:02d}", fps=5) for number in range(16)]
    page = pages.open(site.url, viewport={"width": 1600, "height": 1400})
    for worker in workers:
        wait_drawn(page, tile(worker.camera.metadata.name), 3)
    assert len(pages.sockets) == 1
    assert pages.sockets[0].endswith("/ws")


def test_only_visible_tiles_are_watched(site: Site, pages: Pages) -> None:
    workers = [site.add(f"cam-{number:02d}", fps=5) for number in range(12)]
    page = pages.open(site.url, viewport={"width": 400, "height": 700})
    first, last = tile("cam-00"), tile("cam-11")
    wait_drawn(page, first, 2)
    assert drawn(page, last) == 0 and workers[-1].published == 0
    page.locator(last).scroll_into_view_if_needed()
    wait_drawn(page, last, 2)
    settled = drawn(page, first)
    wait_drawn(page, last, 5)
    assert drawn(page, first) <= settled + 2, "what was scrolled away is not sent any more"


def test_a_camera_added_later_appears_and_a_removed_one_goes(site: Site, pages: Pages) -> None:
    site.add("lobby")
    page = pages.open(site.url)
    wait_state(page, "lobby", "live")
    site.add("attic")
    wait_drawn(page, tile("attic"), 2)
    assert [a.get_attribute("data-camera") for a in page.query_selector_all("a.tile")] == [
        "default.attic",
        "default.lobby",
    ]
    (site.state.objects / "default.lobby.json").unlink()
    page.wait_for_selector(tile("lobby"), state="detached")


def test_reconnects_within_three_seconds_of_the_gateways_return(site: Site, pages: Pages) -> None:
    site.add("lobby")
    page = pages.open(site.url)
    page.evaluate("window.notReloaded = true")
    wait_drawn(page, tile("lobby"), 3)

    site.gateway.kill()
    page.wait_for_selector("#banner:not([hidden])")
    assert "Reconnecting" in page.inner_text("#banner")
    assert page.evaluate("document.body.dataset.link") == "lost"
    filtered = page.evaluate("getComputedStyle(document.querySelector('.frame')).filter")
    assert "grayscale" in filtered, "the last pictures stay, greyed"
    time.sleep(2)  # the outage itself, so that the page is in its backoff

    before = drawn(page, tile("lobby"))
    site.gateway.restart()
    stopwatch = Stopwatch()
    eventually(lambda: drawn(page, tile("lobby")) > before, "a new picture")
    assert stopwatch.seconds < 3.0
    page.wait_for_selector("#banner", state="hidden")
    assert page.evaluate("window.notReloaded")
    assert page.evaluate("document.body.dataset.link") == "open"


def test_an_orderly_restart_reconnects_too(site: Site, pages: Pages) -> None:
    site.add("lobby")
    page = pages.open(site.url)
    wait_drawn(page, tile("lobby"), 3)
    site.gateway.stop()
    before = drawn(page, tile("lobby"))
    site.gateway.restart()
    stopwatch = Stopwatch()
    eventually(lambda: drawn(page, tile("lobby")) > before, "a new picture")
    assert stopwatch.seconds < 3.0


def test_a_hidden_page_lets_the_worker_rest(site: Site, pages: Pages) -> None:
    worker = site.add("lobby")
    page = pages.open(site.url)
    wait_drawn(page, tile("lobby"), 2)
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});" + (
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    page.evaluate(hide % "true")

    def viewers() -> int:
        count: int = httpx.get(f"{site.url}/api/cameras/default.lobby", timeout=60).json()["viewers"]
        return count

    eventually(lambda: viewers() == 0, "no viewer")
    before = drawn(page, tile("lobby"))
    page.evaluate(hide % "false")
    eventually(lambda: viewers() == 1, "one viewer")
    eventually(lambda: drawn(page, tile("lobby")) > before, "pictures again")
    assert worker.published > 0


def test_stale_offline_paused_and_live_look_different(site: Site, pages: Pages) -> None:
    workers = {name: site.add(name) for name in ("live", "stale", "offline")}
    site.declare("never")
    site.declare("paused", suspend=True)
    page = pages.open(site.url, viewport={"width": 1440, "height": 1000})
    for name in workers:
        wait_drawn(page, tile(name), 3)

    workers["stale"].lose_source("connection refused by rtsp://10.0.0.5:554/live")
    workers["offline"].connected = False
    wait_state(page, "stale", "stale")
    wait_state(page, "offline", "offline")
    wait_state(page, "never", "offline")
    wait_state(page, "paused", "suspended")

    def style(name: str, part: str, what: str) -> str:
        value: str = page.evaluate(
            "([s, p, w]) => getComputedStyle(document.querySelector(s).querySelector(p))[w]",
            [tile(name), part, what],
        )
        return value

    page.wait_for_function(
        "(s) => /No picture for [1-9]\\d* s/.test(document.querySelector(s).innerText)", arg=tile("stale")
    )
    page.wait_for_function(
        "(s) => getComputedStyle(document.querySelector(s).querySelector('.frame')).filter.includes('gray')",
        arg=tile("stale"),
    )
    assert style("stale", ".stage", "visibility") == "visible", "its last picture stays"
    assert style("stale", ".overlay", "visibility") == "hidden", "without boxes that are no longer true"
    assert style("offline", ".stage", "visibility") == "hidden", "no old picture pretends otherwise"
    assert style("live", ".frame", "filter") == "none"
    stale, offline = page.inner_text(tile("stale")), page.inner_text(tile("offline"))
    assert "cannot be reached" in stale and "Offline" not in stale
    assert "Offline" in offline and "No worker is connected" in offline
    assert "Paused" in page.inner_text(tile("paused"))
    backgrounds = {style(name, ".badge", "color") for name in ("live", "stale", "offline", "paused")}
    assert len(backgrounds) == 4, "four tones"
    assert page.locator(f"{tile('live')} .veil").is_hidden()
    assert (
        page.get_attribute(tile("stale"), "aria-label") == "stale, No picture, The camera cannot be reached"
    )
    page.get_by_role("button", name="Attention").click()
    assert page.locator("a.tile:visible").count() == 3
    workers["live"].source = workers["live"].source.model_copy(update={"frozen": True})
    page.wait_for_selector(f"{tile('live')}:visible", timeout=60000)
    assert "Frozen" in page.inner_text(tile("live")) and style("live", ".frame", "filter") == "none"
    assert style("live", ".badge", "color") == style("stale", ".badge", "color")
    workers["live"].source = workers["live"].source.model_copy(update={"frozen": False})

    workers["stale"].find_source()
    workers["offline"].connected = True
    page.get_by_role("button", name="All 5").click()
    wait_state(page, "stale", "live")
    wait_state(page, "offline", "live")
    wait_drawn(page, tile("offline"), 2)
