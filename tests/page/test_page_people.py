"""Enrolling people on the page: pictures and why they are refused, roles, archives, erasure."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from page_faces import thing
from page_probe import CONTRAST, NAMELESS
from page_site import Pages, Site, eventually
from page_tokens import sign_in, tokens_file
from playwright.sync_api import Locator, Page, expect

from support.require import model_dir, sample

pytestmark = pytest.mark.browser

expect.set_options(timeout=60_000)

WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def people(site: Site) -> list[dict[str, Any]]:
    """Everybody who is enrolled."""
    found: list[dict[str, Any]] = httpx.get(f"{site.url}/api/people", timeout=60).json()["people"]
    return found


def add(page: Page, name: str) -> None:
    """Add somebody by the dialog; leads to their page."""
    page.get_by_role("button", name="Add person").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill(name)
    dialog.get_by_role("button", name="Add and choose pictures").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def result(page: Page, file: str) -> Locator:
    """The row of a picture that was given."""
    return page.locator(".enrol-row", has_text=file).first


def test_pictures_are_enrolled_or_refused_with_a_reason(
    make_site: Callable[..., Site], pages: Pages, tmp_path: Path
) -> None:
    site = make_site(model_dir=str(model_dir()))
    page = pages.open(f"{site.url}/#/people")
    expect(page.locator(".empty")).to_contain_text("Nobody is enrolled yet")
    add(page, "Barack")
    text = tmp_path / "letter.jpg"
    text.write_text("Dear Sir")
    folder = sample("people/obama.jpg").parent
    page.locator("#enrol-files").set_input_files(
        [folder / "obama.jpg", folder / "obama_and_biden.jpg", text, folder / "obama2.jpg"]
    )
    expect(result(page, "obama2.jpg")).to_have_attribute("data-result", "taken")
    expect(result(page, "obama.jpg")).to_have_attribute("data-result", "taken")
    expect(result(page, "obama_and_biden.jpg")).to_contain_text("Several faces")
    expect(result(page, "letter.jpg")).to_contain_text("Not a picture")
    expect(page.locator(".face")).to_have_count(2)
    expect(page.locator(".face img").first).to_be_visible()
    assert people(site)[0]["faces"] == 2

    page.locator("#enrol-files").set_input_files([folder / "obama.jpg"])
    expect(result(page, "obama.jpg")).to_contain_text("Nothing new")
    page.go_back()
    add(page, "Somebody")
    page.locator("#enrol-files").set_input_files([folder / "obama1.jpg"])
    row = result(page, "obama1.jpg")
    expect(row).to_contain_text("Looks like somebody else")
    expect(row).to_contain_text("Barack")
    row.get_by_role("button", name="Add it all the same").click()
    expect(row).to_have_attribute("data-result", "taken")
    page.get_by_role("button", name="Remove picture").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.locator(".face")).to_have_count(0)
    assert {person["name"]: person["faces"] for person in people(site)} == {"Barack": 2, "Somebody": 0}


def test_add_change_find_and_erase(site: Site, pages: Pages) -> None:
    page = pages.open(f"{site.url}/#/people")
    page.get_by_role("button", name="Add person").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Group").fill("Not A Label")
    dialog.get_by_role("button", name="Add and choose pictures").click()
    expect(dialog.get_by_role("alert").or_(dialog.locator(".field-error:visible")).first).to_be_visible()
    page.keyboard.press("Escape")
    for name in ("Ada", "Grace"):
        add(page, name)
        page.get_by_role("link", name="Back to all people").click()
    page.get_by_role("searchbox").fill("gra")
    expect(page.locator(".person-card")).to_have_count(1)
    page.locator(".person-card").click()
    page.get_by_label("Group").fill("blocked")
    page.get_by_label("Valid until").fill("2020-02-03")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".view-head")).to_contain_text("blocked")
    expect(page.locator(".view-head")).to_contain_text("not valid since")
    page.go_back()
    page.get_by_role("button", name="blocked 1").click()
    expect(page.locator(".person-card")).to_have_count(1)
    page.locator(".person-card").click()

    page.get_by_role("button", name="Erase").click()
    expect(page.get_by_role("dialog").get_by_label("show this face without a name: none now")).to_be_checked()
    erase = page.get_by_role("dialog").get_by_role("button", name="Erase for good")
    expect(erase).to_be_disabled()
    page.get_by_role("dialog").get_by_role("textbox").fill("grace")
    expect(erase).to_be_disabled()
    page.get_by_role("dialog").get_by_role("textbox").fill("Grace")
    erase.click()
    expect(page.locator(".person-card")).to_have_count(1)
    assert [person["name"] for person in people(site)] == ["Ada"]


def test_archives_and_roles(make_site: Callable[..., Site], pages: Pages, tmp_path: Path) -> None:
    tokens = tokens_file(tmp_path / "tokens.yaml")
    site = make_site(tokens_file=str(tmp_path / "tokens.yaml"))
    page = pages.open(f"{site.url}/#/people")
    sign_in(page, tokens["admin"])
    page.get_by_role("button", name="Import").click()
    table = tmp_path / "people.csv"
    table.write_text("name,group\nAda,staff\nGrace,No Group!\nJoan,visitor\n")
    page.locator("#import-file").set_input_files(table)
    report = page.locator(".import-report")
    expect(report).to_contain_text("2 added")
    expect(report).to_contain_text("1 refused")
    expect(report.locator("li")).to_contain_text("Grace")
    page.keyboard.press("Escape")
    expect(page.locator(".person-card")).to_have_count(2)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    path = tmp_path / "export.zip"
    download.value.save_as(path)
    with zipfile.ZipFile(path) as archive:
        assert "Ada" in archive.read("people.csv").decode()

    page.get_by_role("button", name="Sign out").click()
    sign_in(page, tokens["viewer"])
    expect(page.locator(".person-card")).to_have_count(2)
    assert page.get_by_role("button", name="Add person").count() == 0
    assert page.get_by_role("button", name="Import").count() == 0
    assert page.get_by_role("button", name="Export").count() == 0
    expect(page.get_by_role("link", name="Search")).to_be_hidden()
    page.locator(".person-card").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Ada")
    assert page.locator("#enrol-files").count() == 0
    assert page.get_by_role("button", name="Erase").count() == 0
    page.goto(f"{site.url}/#/search")
    expect(page.locator(".empty")).to_contain_text("needs the role operator")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_contrast_and_phones(site: Site, pages: Pages, scheme: str) -> None:
    """Every new view and its dialogs, on a phone."""
    lobby = site.add("lobby", fps=2, alerts=[{"name": "door", "when": "InZone", "zone": "door"}])
    lobby.events.append(
        thing("default.lobby", 1, age=30, zones=[{"name": "door", "seconds": 5}], identity="none")
    )
    person = httpx.post(f"{site.url}/api/people", json={"name": "Ada", "group": "visitor"}, timeout=60).json()
    eventually(lambda: httpx.get(f"{site.url}/api/alerts", timeout=60).json()["alerts"], "an alert")
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    page = pages.open(f"{site.url}/#/events", color_scheme=scheme, **phone)

    def fine(ready: str) -> None:
        expect(page.locator(ready).first).to_be_visible()
        assert page.evaluate(NAMELESS) == [], ready
        assert page.evaluate(CONTRAST) == [], ready
        assert page.evaluate(WIDE) <= 0, f"nothing hangs over the edge: {ready}"
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
        assert len(ids) == len(set(ids)), "ids are unique"
        small = page.evaluate(
            """() => [...document.querySelectorAll("button, select, .place, .drop-zone")]
              .filter((e) => e.checkVisibility())
              .map((e) => [e.ariaLabel || e.textContent || e.id, e.getBoundingClientRect()])
              .filter(([, r]) => r.height < 32 || r.width < 32).map(([name]) => name)"""
        )
        assert small == [], "targets a thumb can hit"

    page.get_by_role("button", name="Filters").tap()
    fine(".filters.open")
    page.locator('[data-id="thing-1"]').tap()
    fine("dialog .details")
    page.get_by_role("button", name="Close").tap()
    page.get_by_role("link", name="Alerts").tap()
    fine(".alert-card")
    page.get_by_role("link", name="People").tap()
    fine(".person-card")
    page.get_by_role("button", name="Add person").tap()
    fine("dialog .form")
    page.get_by_role("button", name="Close").tap()
    page.goto(f"{site.url}/#/people/{person['id']}")
    fine(".drop-zone")
    page.get_by_role("button", name="Erase").tap()
    fine("dialog .bullets")
    page.get_by_role("button", name="Close").tap()
    page.get_by_role("link", name="Search").tap()
    fine(".search-view .empty")
