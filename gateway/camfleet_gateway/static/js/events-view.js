/** All events: filtered, live, with pictures; one of them in a dialog. */

import { listEvents } from "./api-records.js";
import { query } from "./api.js";
import { DayList } from "./day-list.js";
import { h, icon } from "./dom.js";
import { EventCard } from "./event-card.js";
import { EventDialog } from "./event-dialog.js";
import { EventFeed } from "./feed.js";
import { apiFilters, cameraFilter, emptyState, FilterBar, identityFilter, timeFilter, whatFilter } from "./filters.js";
import { Paged } from "./paged.js";
import { personFilter } from "./person-filter.js";
import { keptNote } from "./privacy.js";
import { address } from "./routes.js";
import { Thumbs } from "./thumbs.js";

const PART = 50;
const MOST_WAITING = 200;
const MOST_SHOWN = 3000;
const SCROLLED_PX = 80;
const IN_VIEW_EVERY_MS = 15_000;

export class EventsView {
  title = "Events";
  #store;
  #filters; // of the list; the address has the open event besides
  #thumbs = new Thumbs();
  #days = new DayList();
  #waiting = new Map(); // id → event that came while one was reading further down
  #bar;
  #paged;
  #feed = null;
  #dialog = null;
  #fromList = false; // whether the list is what the browser goes back to from the open event
  #listening = new AbortController();
  #timer = 0;
  #more = h("button", { type: "button", class: "button primary new-events", hidden: true, onclick: () => this.#showWaiting() });
  #none = h("div", { class: "empty", hidden: true });
  #note;

  /** @param {import("./store.js").Store} store @param {{filters: URLSearchParams}} route */
  constructor(store, route) {
    this.#store = store;
    this.#filters = listFilters(route.filters);
    const fields = [cameraFilter(store), whatFilter(), identityFilter(), personFilter(), timeFilter()];
    this.#bar = new FilterBar(fields, this.#filters, (filters) => this.#choose(filters));
    this.#paged = new Paged({
      load: async (cursor, options) => {
        const { events, next_cursor: next } = await listEvents({ ...apiFilters(this.#filters), limit: PART, cursor }, options);
        return { items: events, next: next ?? null };
      },
      take: (events, first) => this.#take(events, first),
      most: MOST_SHOWN,
    });
    this.#note = keptNote(store, this.#listening.signal);
    this.element = h(
      "section",
      { class: "records events-view", "aria-label": "Events" },
      h("div", { class: "records-head" }, h("h1", {}, "Events"), this.#note),
      this.#bar.element,
      this.#more,
      this.#days.element,
      this.#none,
      this.#paged.element,
    );
    addEventListener("scroll", () => scrollY < SCROLLED_PX && this.#showWaiting(), { passive: true, signal: this.#listening.signal });
    this.#timer = setInterval(() => this.#refresh(), IN_VIEW_EVERY_MS);
    this.#start();
    this.#openEvent(route.filters.get("event"));
  }

  entered() {
    document.getElementById("main").focus({ preventScroll: true });
  }

  /** Another address of this same view. */
  follow(route) {
    const filters = listFilters(route.filters);
    if (String(filters) !== String(this.#filters)) {
      this.#filters = filters;
      this.#bar.show(filters);
      this.#start();
    }
    this.#fromList = this.#dialog === null;
    this.#openEvent(route.filters.get("event"));
  }

  onFrame() {}

  dispose() {
    this.#listening.abort();
    clearInterval(this.#timer);
    this.#feed?.close();
    this.#paged.dispose();
    this.#bar.dispose();
    this.#closeDialog();
    this.#thumbs.dispose();
    this.element.remove();
  }

  // ── The list ────────────────────────────────────────────────────────────────────────────────────

  #choose(filters) {
    this.#filters = filters;
    this.#bar.show(filters);
    history.replaceState(null, "", address("events", filters));
    this.#start();
  }

  #start() {
    this.#feed?.close();
    this.#feed = null;
    this.#waiting.clear();
    this.#showMore();
    const filters = apiFilters(this.#filters);
    if (!filters.until) {
      const { since, ...live } = filters; // what comes now is after any beginning
      this.#feed = new EventFeed(query(live), { onEvent: (event) => this.#happened(event), onAgain: () => this.#paged.reset() });
    }
    this.#none.hidden = true;
    this.#paged.reset();
  }

  #take(events, first) {
    if (first) {
      this.#thumbs.forget(this.#days.element);
      this.#days.clear();
      this.#waiting.clear();
      this.#showMore();
    }
    for (const event of events) this.#put(event);
    this.#showNone();
  }

  #put(event) {
    const card = this.#days.get(event.id);
    if (!card) {
      this.#days.add(event.id, event.time, new EventCard(event, this.#thumbs, { address: (one) => this.#address(one.id) }));
    } else if ((event.revision ?? 0) >= (card.event.revision ?? 0)) {
      card.show(event);
    }
  }

  #address(id) {
    const filters = new URLSearchParams(this.#filters);
    if (id) filters.set("event", id);
    return address("events", filters);
  }

  /** Something came: at once if the top is in view, else when one goes there, so that nothing jumps. */
  #happened(event) {
    if (this.#dialog?.id === event.id) this.#dialog.show(event);
    if (this.#days.get(event.id)) this.#put(event);
    else if (this.#fits(event)) {
      this.#waiting.delete(event.id);
      this.#waiting.set(event.id, event);
      if (this.#waiting.size > MOST_WAITING) this.#waiting.delete(this.#waiting.keys().next().value);
      if (scrollY < SCROLLED_PX && !this.#dialog) this.#showWaiting(false);
    }
    this.#showMore();
    this.#showNone();
  }

  /** Whether it is of whom the list is; the gateway also tells of events that were, until people corrected them. */
  #fits(event) {
    const { person, identity } = apiFilters(this.#filters);
    return (!person || event.person?.id === person) && (!identity || event.identity === identity);
  }

  #showWaiting(up = true) {
    if (!this.#waiting.size) return;
    const events = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const event of events) this.#put(event);
    this.#showMore();
    if (this.#days.size > MOST_SHOWN) this.#paged.reset(); // a page that is open for days
    if (up && scrollY >= SCROLLED_PX) scrollTo({ top: 0, behavior: "smooth" });
  }

  /** What was in view may no longer be, without anybody saying so. */
  #refresh() {
    for (const card of this.#days.cards) if (card.link.querySelector(".badge")) card.show(card.event);
  }

  #showMore() {
    const count = this.#waiting.size;
    this.#more.hidden = count === 0;
    if (count) this.#more.replaceChildren(icon("up"), `${count === 1 ? "1 new event" : `${count} new events`}`);
  }

  #showNone() {
    const none = this.#days.size === 0 && this.#waiting.size === 0;
    this.#none.hidden = !none;
    if (!none) return;
    if (this.#filters.size) {
      this.#none.replaceChildren(
        ...emptyState(
          "events",
          "No event fits",
          "Nothing that is kept matches these filters. Choose a longer time, or clear the filters.",
          h("button", { type: "button", class: "button", onclick: () => this.#clear() }, "Show all events"),
        ),
      );
    } else {
      this.#none.replaceChildren(
        ...emptyState(
          "events",
          "Nothing has happened yet",
          "Events come here by themselves: faces, persons and things that a camera’s detectors find, alerts, and cameras that come and go. Switch detection on at a camera to get more.",
          h("a", { class: "button", href: "#/" }, "All cameras"),
        ),
      );
    }
  }

  #clear() {
    this.#choose(new URLSearchParams());
  }

  // ── One event ───────────────────────────────────────────────────────────────────────────────────

  #openEvent(id) {
    if ((this.#dialog?.id ?? null) === id) return;
    this.#closeDialog();
    if (!id) return;
    const opened = new EventDialog(id, this.#days.get(id)?.event, this.#store, {
      closed: () => this.#closed(opened),
      changed: (event) => this.#days.get(event.id)?.show(event),
      deleted: () => {
        this.#closed(opened);
        this.#thumbs.forget(this.#days.get(id)?.element ?? opened.dialog);
        this.#days.remove(id);
        this.#showNone();
      },
      step: (by) => this.#step(id, by),
    });
    this.#dialog = opened;
  }

  #closeDialog() {
    const dialog = this.#dialog;
    this.#dialog = null; // so that closing it does not go anywhere
    dialog?.close();
  }

  /** The dialog was closed by hand: the address is that of the list again. */
  #closed(dialog) {
    if (this.#dialog !== dialog) return;
    this.#closeDialog();
    if (this.#fromList) history.back();
    else history.replaceState(null, "", this.#address(null));
    this.#days.get(dialog.id)?.link.focus({ preventScroll: true });
    if (scrollY < SCROLLED_PX) this.#showWaiting(false);
  }

  #step(id, by) {
    const { ids } = this.#days;
    const at = ids.indexOf(id);
    const next = at < 0 ? undefined : ids[at + by];
    if (at + by >= ids.length - 5) this.#paged.more();
    if (!next) return;
    history.replaceState(null, "", this.#address(next));
    this.#openEvent(next);
  }
}

function listFilters(filters) {
  const own = new URLSearchParams(filters);
  own.delete("event");
  return own;
}
