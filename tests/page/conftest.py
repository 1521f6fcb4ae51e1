"""A real gateway, simulated workers and a real browser for the tests of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from page_site import Pages, Site
from playwright.sync_api import Browser, sync_playwright

from support.chromium import FLAGS, chromium
from support.require import need


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser a module, not a session: its event loop must be gone before asynchronous tests run."""
    executable = chromium()
    need(executable, "Chromium: install it, or set CAMFLEET_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def pages(browser: Browser) -> Iterator[Pages]:
    pages = Pages(browser)
    yield pages
    pages.close()
    assert not pages.unexpected, pages.unexpected


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(**settings: Any) -> Site:
        made.append(Site(tmp_path / f"site{len(made)}", **settings))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


@pytest.fixture
def living(site: Site) -> Site:
    """A site on which changes through the API take effect."""
    site.with_runtime()
    return site
