/** Keeps count of alerts that nobody has acknowledged, and tells of new ones wherever one is on the page. */

import { ApiError } from "./api.js";
import { listAlerts } from "./api-records.js";
import { h, toast } from "./dom.js";
import { eventTitle } from "./event-words.js";
import { address } from "./routes.js";
import { shortName } from "./words.js";

const COUNT_TO = 100;
const SETTLE_MS = 300;
const TOASTS_AT_ONCE = 3;

export class AlertWatch extends EventTarget {
  #store;
  #timer = 0;
  #known = new Set(); // ids that were told, the newest last

  /** @param {import("./store.js").Store} store */
  constructor(store) {
    super();
    this.#store = store;
  }

  /** Ask the gateway how many are open. */
  async count() {
    clearTimeout(this.#timer);
    try {
      const { alerts } = await listAlerts({ acknowledged: "false", limit: COUNT_TO });
      this.#store.setOpenAlerts(alerts.length);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error; // no badge then
    }
  }

  /** An event came over the page's connection. */
  happened(event) {
    if (event.type !== "alert") return;
    if (event.data?.acknowledged || this.#known.has(event.id)) {
      this.changed(); // somebody saw to it
      this.dispatchEvent(new CustomEvent("alert", { detail: event }));
      return;
    }
    this.#known.add(event.id);
    if (this.#known.size > COUNT_TO) this.#known.delete(this.#known.values().next().value);
    this.changed();
    this.dispatchEvent(new CustomEvent("alert", { detail: event }));
    if (document.querySelectorAll(".toast[data-kind=alert]").length >= TOASTS_AT_ONCE) return;
    const link = h("a", { href: address("events", { event: event.id }) }, "Show");
    toast([h("strong", {}, eventTitle(event)), ` · ${shortName(event.camera)} `, link], "alert");
  }

  /** Somebody acknowledged one, or there is one more: count again, once for many. */
  changed() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.count(), SETTLE_MS);
  }
}
