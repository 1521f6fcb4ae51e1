"""Looks at what the page has drawn, inside the browser."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

TILE = 'a.tile[data-camera="default.{name}"]'
SAVED_SOCKETS = """
(() => {
  window.sockets = [];
  const Original = window.WebSocket;
  window.WebSocket = class extends Original {
    constructor(...given) { super(...given); window.sockets.push(this); }
  };
})()
"""

# In one go, so that nothing is drawn in between: where the picture is magenta, and where the overlay has ink.
_LOOK = """
(selector) => {
  const box = document.querySelector(selector);
  const frame = box.querySelector("canvas.frame");
  const overlay = box.querySelector("canvas.overlay");
  const extent = (canvas, wanted) => {
    const { width, height } = canvas;
    const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    let left = width, top = height, right = -1, bottom = -1;
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        const at = (y * width + x) * 4;
        if (!wanted(data[at], data[at + 1], data[at + 2], data[at + 3])) continue;
        left = Math.min(left, x); right = Math.max(right, x);
        top = Math.min(top, y); bottom = Math.max(bottom, y);
      }
    }
    if (right < 0) return null;
    return [left / width, top / height, (right - left + 1) / width, (bottom - top + 1) / height];
  };
  return {
    block: extent(frame, (r, g, b) => r > 200 && g < 80 && b > 200),
    // The teal of faces; labels are of the same colour, so only what is left of the label's text counts.
    ink: extent(overlay, (r, g, b, a) => a > 250 && Math.abs(r - 94) < 40 && g > 190 && b > 170),
    frame: [frame.width, frame.height],
    overlay: [overlay.width, overlay.height],
    drawn: Number(box.querySelector(".stage").dataset.drawn ?? 0),
  };
}
"""

_FINGERPRINT = """
(selector) => {
  const canvas = document.querySelector(selector).querySelector("canvas.frame");
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = 0;
  for (let at = 0; at < data.length; at += 97) sum = (sum * 31 + data[at]) | 0;
  return sum;
}
"""

NAMELESS = """
() => [...document.querySelectorAll("button, a[href], input, select, dialog, [role=group]")]
  .filter((e) => e.checkVisibility() || e.matches("input"))
  .filter((e) => {
    const labelled = e.getAttribute("aria-labelledby");
    const name = e.getAttribute("aria-label") || e.textContent.trim() || e.title
      || (e.labels && [...e.labels].map((l) => l.textContent).join(""))
      || (labelled && document.getElementById(labelled)?.textContent);
    return !name;
  })
  .map((e) => e.outerHTML.slice(0, 120))
"""
"""Controls without a name."""
CONTRAST = """
() => {
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour[3] > 200) return colour;
    }
    return rgb("white");
  };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest(".veil, .sr-only, .skip, [disabled]")) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const what = `${e.className || e.tagName} "${e.textContent.trim().slice(0, 30)}"`;
    if (ratio < 4.5) poor.push(`${what} ${ratio.toFixed(2)}`);
  }
  return poor;
}
"""
"""Texts with less contrast than 4.5 to 1."""


def tile(name: str) -> str:
    """Selector of a camera's tile."""
    return TILE.format(name=name)


def look(page: Page, selector: str) -> dict[str, Any]:
    """Extents, as fractions, of the magenta block and of the box over it, of one and the same moment."""
    found: dict[str, Any] = page.evaluate(_LOOK, selector)
    return found


def fingerprint(page: Page, selector: str) -> int:
    """A number that changes with the picture."""
    number: int = page.evaluate(_FINGERPRINT, selector)
    return number


def drawn(page: Page, selector: str) -> int:
    """How many pictures have been drawn there."""
    count: int = page.evaluate(
        "(s) => Number(document.querySelector(s)?.querySelector('.stage').dataset.drawn ?? 0)", selector
    )
    return count


def wait_drawn(page: Page, selector: str, more: int = 1) -> None:
    """Wait until so many more pictures have been drawn."""
    page.wait_for_function(
        "([s, n]) => Number(document.querySelector(s)?.querySelector('.stage').dataset.drawn ?? 0) >= n",
        arg=[selector, drawn(page, selector) + more],
    )


def wait_state(page: Page, name: str, state: str) -> None:
    """Wait until a tile shows this state."""
    page.wait_for_selector(f'{tile(name)}[data-state="{state}"]')
