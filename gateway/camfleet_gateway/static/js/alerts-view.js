/** Alerts: what rules have raised, and who has seen to it. */

import { ApiError } from "./api.js";
import { acknowledgeAlert, listAlerts } from "./api-records.js";
import { DayList } from "./day-list.js";
import { button, h, setText, toast } from "./dom.js";
import { capital, ruleWords } from "./event-words.js";
import { apiFilters, cameraFilter, emptyState, FilterBar, ruleFilter, severityFilter, timeFilter } from "./filters.js";
import { Paged } from "./paged.js";
import { address, cameraAddress, personAddress } from "./routes.js";
import { Thumbs } from "./thumbs.js";
import { dateOf, shortName, when } from "./words.js";

const PART = 50;
const SHOW = { open: { label: "Open", acknowledged: "false" }, all: { label: "All", acknowledged: undefined } };

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export class AlertsView {
  title = "Alerts";
  #store;
  #filters;
  #watch;
  #thumbs = new Thumbs();
  #days = new DayList();
  #bar;
  #rules = ruleFilter();
  #paged;
  #show = h("div", { class: "segmented", role: "group", "aria-label": "Show" });
  #none = h("div", { class: "empty", hidden: true });
  #listening = new AbortController();

  /**
   * @param {import("./store.js").Store} store @param {{filters: URLSearchParams}} route
   * @param {import("./alert-watch.js").AlertWatch} watch
   */
  constructor(store, route, watch) {
    this.#store = store;
    this.#filters = route.filters;
    this.#watch = watch;
    this.#bar = new FilterBar([cameraFilter(store), this.#rules, severityFilter(), timeFilter()], this.#filters, (filters) => this.#choose(filters));
    for (const [name, { label }] of Object.entries(SHOW)) {
      this.#show.append(h("button", { type: "button", data: { show: name }, onclick: () => this.#choose(this.#with(name)) }, label));
    }
    this.#paged = new Paged({
      load: async (cursor, options) => {
        const { acknowledged } = SHOW[this.#shown];
        const filters = new URLSearchParams(this.#filters);
        filters.delete("show");
        const { alerts, next_cursor: next } = await listAlerts({ ...apiFilters(filters), acknowledged, limit: PART, cursor }, options);
        return { items: alerts, next: next ?? null };
      },
      take: (alerts, first) => this.#take(alerts, first),
    });
    this.element = h(
      "section",
      { class: "records alerts-view", "aria-label": "Alerts" },
      h("div", { class: "records-head" }, h("h1", {}, "Alerts"), this.#show),
      this.#bar.element,
      this.#days.element,
      this.#none,
      this.#paged.element,
    );
    watch.addEventListener("alert", ({ detail }) => this.#happened(detail), { signal: this.#listening.signal });
    this.#reload();
  }

  entered() {
    document.getElementById("main").focus({ preventScroll: true });
  }

  follow(route) {
    this.#filters = route.filters;
    this.#bar.show(this.#filters);
    this.#reload();
  }

  onFrame() {}

  dispose() {
    this.#listening.abort();
    this.#paged.dispose();
    this.#bar.dispose();
    this.#thumbs.dispose();
    this.element.remove();
  }

  get #shown() {
    return this.#filters.get("show") === "all" ? "all" : "open";
  }

  #with(show) {
    const filters = new URLSearchParams(this.#filters);
    if (show === "all") filters.set("show", "all");
    else filters.delete("show");
    return filters;
  }

  #choose(filters) {
    this.#filters = filters;
    this.#bar.show(filters);
    history.replaceState(null, "", address("alerts", filters));
    this.#reload();
  }

  #reload() {
    for (const item of this.#show.children) item.setAttribute("aria-pressed", String(item.dataset.show === this.#shown));
    this.#none.hidden = true;
    this.#paged.reset();
  }

  #happened({ id, data }) {
    const card = this.#days.get(id);
    if (!card || !data?.acknowledged) this.#newest();
    else if (!card.alert.acknowledged) {
      card.show({ ...card.alert, acknowledged: data.acknowledged, acknowledged_by: data.acknowledged_by ?? "" });
      if (this.#shown === "open") this.#leave(card);
    }
  }

  /** A new one came: the first part tells it with all that the alerts’ list knows. */
  async #newest() {
    const { acknowledged } = SHOW[this.#shown];
    const filters = new URLSearchParams(this.#filters);
    filters.delete("show");
    try {
      const { alerts } = await listAlerts(
        { ...apiFilters(filters), acknowledged, limit: PART },
        { signal: this.#listening.signal },
      );
      for (const alert of alerts) this.#put(alert);
      this.#showNone();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error; // the toast told of it
    }
  }

  #take(alerts, first) {
    if (first) {
      this.#thumbs.forget(this.#days.element);
      this.#days.clear();
    }
    this.#rules.offer(alerts.map((alert) => alert.rule));
    for (const alert of alerts) this.#put(alert);
    this.#showNone();
  }

  #put(alert) {
    if (this.#days.get(alert.id)) return;
    this.#days.add(alert.id, alert.time, new AlertCard(alert, this.#thumbs, this.#store, (one) => this.#acknowledge(one)));
  }

  async #acknowledge(card) {
    const focused = card.element.contains(document.activeElement); // a button that is switched off loses it
    card.busy(true);
    try {
      const answer = await acknowledgeAlert(card.alert.id);
      card.show(answer);
      this.#watch.changed();
      if (this.#shown === "open") this.#leave(card);
      if (focused) this.#focusNext();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, "error");
      card.busy(false);
    }
  }

  /** It goes from the open ones. */
  #leave(card) {
    this.#thumbs.forget(card.element);
    this.#days.remove(card.alert.id);
    this.#showNone();
  }

  #focusNext() {
    const next = this.#days.element.querySelector("button") ?? document.getElementById("main");
    next.focus({ preventScroll: true });
  }

  #showNone() {
    const none = this.#days.size === 0;
    this.#none.hidden = !none;
    if (!none) return;
    const narrowed = [...this.#filters.keys()].some((key) => key !== "show");
    if (narrowed) {
      this.#none.replaceChildren(...emptyState("bell", "No alert fits", "Nothing matches these filters. Choose a longer time, or clear the filters."));
    } else if (this.#shown === "open") {
      this.#none.replaceChildren(
        ...emptyState(
          "check",
          "Nothing to see to",
          "Every alert has been acknowledged, or there was none.",
          h("button", { type: "button", class: "button", onclick: () => this.#choose(this.#with("all")) }, "Show all alerts"),
        ),
      );
    } else {
      this.#none.replaceChildren(
        ...emptyState(
          "bell",
          "No alerts yet",
          "Rules in a Camera or CameraProfile raise them: somebody in a zone, a blocked or unknown person, a camera offline, too many at once.",
          h("pre", { class: "example", tabindex: "0", "aria-label": "Example of a rule" }, EXAMPLE),
        ),
      );
    }
  }
}

const EXAMPLE = [
  "spec:",
  "  alerts:",
  "    - name: stranger-at-night",
  "      when: UnknownPerson",
  "      schedule: {start: \"22:00\", end: \"06:00\", timezone: Europe/Berlin}",
].join("\n");

/** One alert: its picture, what it says, and what can be done. */
class AlertCard {
  #store;
  #acknowledge;
  #said = h("p", { class: "card-text" });
  #buttons = h("span", { class: "card-buttons" });

  constructor(alert, thumbs, store, acknowledge) {
    this.#store = store;
    this.#acknowledge = acknowledge;
    const title = alert.message ? capital(alert.message.replace(/\.$/, "")) : ruleWords(alert.data?.when);
    const person = alert.data?.person;
    const details = address("events", { event: alert.event_id ?? alert.id });
    this.element = h(
      "li",
      { class: "card-item" },
      h(
        "article",
        { class: "card alert-card", data: { id: alert.id, severity: alert.severity } },
        thumbs.make(alert.crop_url ?? null, { symbol: "bell" }),
        h(
          "div",
          { class: "card-body" },
          h(
            "div",
            { class: "card-head" },
            h("a", { class: "card-title", href: details }, title),
            h("time", { datetime: dateOf(alert.time).toISOString() }, clock.format(dateOf(alert.time))),
          ),
          h(
            "p",
            { class: "card-text" },
            h("a", { href: cameraAddress(alert.camera), class: "event-camera" }, shortName(alert.camera)),
            ` · ${alert.rule}`,
            person?.id ? h("span", {}, " · ", h("a", { class: "event-camera", href: personAddress(person.id) }, person.name || "a known person")) : null,
          ),
          this.#said,
          h(
            "span",
            { class: "tags" },
            h("span", { class: "tag", data: { severity: alert.severity } }, alert.severity),
            h("span", { class: "spacer" }),
            this.#buttons,
          ),
        ),
      ),
    );
    this.show(alert);
  }

  show(alert) {
    this.alert = alert;
    const done = Boolean(alert.acknowledged);
    this.element.firstChild.dataset.acknowledged = done ? "yes" : "no";
    setText(this.#said, done ? `Acknowledged ${[alert.acknowledged_by && `by ${alert.acknowledged_by}`, typeof alert.acknowledged === "number" && when(alert.acknowledged)].filter(Boolean).join(", ")}` : "");
    this.#said.hidden = !done;
    const buttons = [h("a", { class: "button small", href: cameraAddress(alert.camera) }, "Live")];
    if (!done && this.#store.may("operator")) {
      buttons.push(button("check", "Acknowledge", { text: true, class: "button small", onclick: () => this.#acknowledge(this) }));
    }
    this.#buttons.replaceChildren(...buttons);
  }

  busy(on) {
    for (const item of this.#buttons.querySelectorAll("button")) item.disabled = on;
  }
}
