/** The row of filters above a list. What is chosen stands in the address, so that it can be kept and passed on. */

import { button, h, icon, setText } from "./dom.js";
import { shortName } from "./words.js";

const HOUR = 3600;

/** Times to choose from; in the address as `last`. */
const LAST = { "1h": ["Last hour", HOUR], "24h": ["Last 24 hours", 24 * HOUR], "7d": ["Last 7 days", 7 * 24 * HOUR] };

/** What an event is about; in the address under the names of the API. */
const WHAT = [
  ["Everything", {}],
  ["Faces", { kind: "face" }],
  ["Persons", { label: "person" }],
  ["Objects", { kind: "object" }],
  ["Cars", { label: "car" }],
  ["Alerts", { type: "alert" }],
  ["Cameras", { type: "camera.offline,camera.online,camera.stale,camera.recovered" }],
  ["Sources", { type: "source.lost,source.connected,source.frozen,source.unfrozen,source.auth_failed,source.ended" }],
];

const TIMES = ["last", "since", "until"];

/** The filters of a list as the API takes them: relative times become points in time. */
export function apiFilters(filters, now = Date.now() / 1000) {
  const values = Object.fromEntries(filters);
  delete values.event;
  const last = LAST[values.last];
  delete values.last;
  if (last) values.since = Math.floor(now - last[1]);
  return values;
}

/** A field of the row: an element, its keys in the address, and `show(filters)` that brings it in line with that. */
function choice(label, options, { read, write, id, keys }) {
  const select = h("select", { class: "field", id: `filter-${id}` });
  select.append(...options().map(([value, text]) => h("option", { value }, text)));
  const show = (filters) => {
    const value = read(filters);
    if (![...select.options].some((option) => option.value === value)) select.append(h("option", { value }, value));
    select.value = value;
  };
  const element = h("div", { class: "filter" }, h("label", { for: select.id }, label), select);
  return { element, keys, show, listen: (changed) => select.addEventListener("change", () => changed(write(select.value))), select };
}

const one = (label, key, entries) =>
  choice(label, () => entries, {
    id: key,
    keys: [key],
    read: (filters) => filters.get(key) ?? "",
    write: (value) => ({ [key]: value || null }),
  });

export const identityFilter = () =>
  one("Identity", "identity", [["", "Any"], ["known", "Known"], ["unknown", "Unknown"], ["unsure", "Not sure"]]);

export const severityFilter = () =>
  one("Severity", "severity", [["", "Any"], ["info", "Info"], ["warning", "Warning"], ["critical", "Critical"]]);

/** The rule of an alert; which there are turns out from the alerts. */
export function ruleFilter() {
  const made = one("Rule", "rule", [["", "All rules"]]);
  const known = new Set();
  return {
    ...made,
    offer: (names) => {
      for (const name of names) known.add(name);
      const { value } = made.select;
      const option = (key, text = key) => h("option", { value: key }, text);
      made.select.replaceChildren(option("", "All rules"), ...[...known].sort().map((name) => option(name)));
      made.show(new URLSearchParams({ rule: value }));
    },
  };
}

export function whatFilter() {
  const keys = ["kind", "label", "type"];
  const code = (values) => keys.filter((key) => values[key]).map((key) => `${key}=${values[key]}`).join("&");
  return choice("What", () => WHAT.map(([text, values]) => [code(values), text]), {
    id: "what",
    keys,
    read: (filters) => code(Object.fromEntries(filters)),
    write: (text) => {
      const chosen = new URLSearchParams(text);
      return Object.fromEntries(keys.map((key) => [key, chosen.get(key)]));
    },
  });
}

export function cameraFilter(store) {
  const cameras = () => [["", "All cameras"], ...[...store.cameras.keys()].sort().map((id) => [id, shortName(id)])];
  const made = one("Camera", "camera", cameras());
  const refresh = () => {
    const { value } = made.select;
    made.select.replaceChildren(...cameras().map(([id, text]) => h("option", { value: id }, text)));
    made.show(new URLSearchParams({ camera: value }));
  };
  return { ...made, follow: (options) => store.addEventListener("list", refresh, options) };
}

/** A relative time, or from and until. */
export function timeFilter() {
  const select = choice("Time", () => [["", "Any time"], ...Object.entries(LAST).map(([key, [text]]) => [key, text]), ["range", "From … until"]], {
    id: "time",
    keys: TIMES,
    read: (filters) => (filters.get("since") || filters.get("until") ? "range" : (filters.get("last") ?? "")),
    write: (value) => ({ last: value === "range" ? null : value || null, since: null, until: null }),
  });
  const field = (id, label) => h("input", { type: "datetime-local", class: "field", id, "aria-label": label });
  const since = field("filter-since", "From");
  const until = field("filter-until", "Until");
  const range = h("div", { class: "filter-range", hidden: true }, since, h("span", { "aria-hidden": "true" }, "–"), until);
  const element = h("div", { class: "filter-time" }, select.element, range);
  return {
    element,
    keys: TIMES,
    show: (filters) => {
      select.show(filters);
      range.hidden = select.select.value !== "range";
      since.value = localTime(filters.get("since"));
      until.value = localTime(filters.get("until"));
    },
    listen: (changed) => {
      select.listen((values) => {
        if (select.select.value !== "range") changed(values);
        else {
          range.hidden = false;
          since.value = localTime(Date.now() / 1000 - 24 * HOUR);
          since.focus();
          changed({ last: null, since: seconds(since.value), until: null });
        }
      });
      for (const [input, key] of [[since, "since"], [until, "until"]]) {
        input.addEventListener("change", () => changed({ last: null, [key]: seconds(input.value) }));
      }
    },
  };
}

const seconds = (local) => (local ? String(Math.floor(new Date(local).getTime() / 1000)) : null);

function localTime(unixSeconds) {
  if (!unixSeconds) return "";
  const date = new Date(Number(unixSeconds) * 1000);
  if (Number.isNaN(date.getTime())) return "";
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** The fields in a row; on a phone behind a button. */
export class FilterBar {
  #fields;
  #changed;
  #filters;
  #listening = new AbortController();
  #clear = h("button", { type: "button", class: "button quiet", hidden: true }, "Clear");
  #toggle;
  #row;

  /**
   * @param {object[]} fields @param {URLSearchParams} filters
   * @param {(filters: URLSearchParams) => void} changed
   */
  constructor(fields, filters, changed) {
    this.#fields = fields;
    this.#changed = changed;
    this.#filters = filters;
    this.#toggle = button("filter", "Filters", { text: true, class: "button filters-toggle", "aria-expanded": "false" });
    this.#toggle.addEventListener("click", () => this.#expand(this.#toggle.getAttribute("aria-expanded") !== "true"));
    this.#row = h("div", { class: "filters", role: "group", "aria-label": "Filters" }, ...fields.map((field) => field.element), this.#clear);
    this.element = h("div", { class: "filter-bar" }, this.#toggle, this.#row);
    for (const field of fields) {
      field.listen((values) => this.#set(values));
      field.follow?.({ signal: this.#listening.signal });
    }
    this.#clear.addEventListener("click", () => {
      this.#set(Object.fromEntries(this.#mine().map((key) => [key, null])));
      this.#fields[0].element.querySelector("select, button")?.focus();
    });
    this.show(filters);
  }

  /** Bring the fields in line with the address. */
  show(filters) {
    this.#filters = filters;
    for (const field of this.#fields) field.show(filters);
    const count = new Set(this.#mine().map((key) => (TIMES.includes(key) ? "time" : key))).size;
    this.#clear.hidden = count === 0;
    setText(this.#toggle.querySelector("span"), count ? `Filters (${count})` : "Filters");
    this.#toggle.setAttribute("aria-label", count ? `Filters, ${count} set` : "Filters");
  }

  dispose() {
    this.#listening.abort();
  }

  /** What is set of the keys of our fields; the address may hold more. */
  #mine() {
    const keys = this.#fields.flatMap((field) => field.keys);
    return [...this.#filters.keys()].filter((key) => keys.includes(key));
  }

  #expand(on) {
    this.#toggle.setAttribute("aria-expanded", String(on));
    this.#row.classList.toggle("open", on);
  }

  #set(values) {
    const filters = new URLSearchParams(this.#filters);
    for (const [key, value] of Object.entries(values)) {
      if (value) filters.set(key, value);
      else filters.delete(key);
    }
    this.show(filters);
    this.#changed(filters);
  }
}

/** The icon and words of an empty list. */
export function emptyState(symbol, title, ...content) {
  return [
    h("span", { class: "empty-icon" }, icon(symbol)),
    h("h2", {}, title),
    ...content.filter(Boolean).map((part) => (typeof part === "string" ? h("p", { class: "empty-text" }, part) : part)),
  ];
}
