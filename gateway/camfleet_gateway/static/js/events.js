/** Lists of events: the drawer beside the grid, and the part of a camera's own page. */

import { button, h } from "./dom.js";
import { eventText, eventTitle } from "./event-words.js";
import { address, cameraAddress } from "./routes.js";
import { dateOf, shortName, when } from "./words.js";

/** One event as a list item. */
function item(event, withCamera) {
  const title = eventTitle(event);
  const text = eventText(event);
  const camera = withCamera ? h("a", { class: "event-camera", href: cameraAddress(event.camera) }, shortName(event.camera)) : null;
  return h(
    "li",
    { class: "event", data: { severity: event.severity ?? "info", id: event.id, revision: event.revision ?? 0 } },
    h(
      "div",
      { class: "event-head" },
      h("a", { class: "event-title", href: address("events", { event: event.id }) }, title),
      h("time", { datetime: dateOf(event.time).toISOString() }, when(event.time)),
    ),
    camera || text ? h("p", { class: "event-text" }, camera, camera && text ? " · " : "", text) : null,
  );
}

/** A list that follows the store; of one camera, or of all. */
export class EventList {
  #store;
  #camera;
  #listening = new AbortController();
  #list = h("ol", { class: "events" });
  #none = h("p", { class: "events-none" }, "Nothing has happened yet.");

  constructor(store, camera = null) {
    this.#store = store;
    this.#camera = camera;
    this.element = h("div", { class: "events-list" }, this.#list, this.#none);
    store.addEventListener("events", ({ detail }) => this.#follow(detail.event), { signal: this.#listening.signal });
    this.#fill();
  }

  dispose() {
    this.#listening.abort();
  }

  #mine(event) {
    return this.#camera === null || event.camera === this.#camera;
  }

  #fill() {
    const mine = this.#store.events.filter((event) => this.#mine(event)).slice(0, 200);
    this.#list.replaceChildren(...mine.map((event) => item(event, this.#camera === null)));
    this.#none.hidden = mine.length > 0;
  }

  #follow(event) {
    if (!event) {
      if (this.#list.childElementCount !== this.#store.events.filter((known) => this.#mine(known)).length) this.#fill();
      return;
    }
    if (!this.#mine(event)) return;
    const known = [...this.#list.children].find((element) => element.dataset.id === event.id);
    if (known) {
      known.replaceWith(item(event, this.#camera === null));
      return;
    }
    this.#list.prepend(item(event, this.#camera === null));
    while (this.#list.childElementCount > 200) this.#list.lastChild.remove();
    this.#none.hidden = true;
  }
}

/** The drawer with the events of all cameras. */
export class EventDrawer {
  #element = document.getElementById("events");
  #store;
  #list = null;
  onToggle = () => {};

  constructor(store) {
    this.#store = store;
  }

  get open() {
    return !this.#element.hidden;
  }

  toggle(open = !this.open) {
    if (open === this.open) return;
    this.#element.hidden = !open;
    document.body.classList.toggle("has-drawer", open);
    this.#list?.dispose();
    this.#list = null;
    if (open) {
      this.#list = new EventList(this.#store);
      const close = button("close", "Close events", { class: "icon-button", onclick: () => this.toggle(false) });
      this.#element.replaceChildren(
        h(
          "div",
          { class: "drawer-head" },
          h("h2", {}, "Latest events"),
          h("a", { class: "more", href: address("events") }, "All events"),
          close,
        ),
        this.#list.element,
      );
      this.#store.seeEvents();
      close.focus({ preventScroll: true });
    } else {
      this.#element.replaceChildren();
      this.onToggle();
    }
  }
}
