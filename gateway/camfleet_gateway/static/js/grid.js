/** The grid of all cameras: watches only the tiles that can be seen. */

import { button, h, icon } from "./dom.js";
import { remember, remembered } from "./prefs.js";
import { Tile } from "./tile.js";
import { needsAttention } from "./words.js";

const FILTERS = {
  all: { label: "All", test: () => true },
  live: { label: "Live", test: (info) => info.state === "live" },
  attention: { label: "Attention", test: needsAttention },
};
const SIZES = { small: "Small tiles", medium: "Medium tiles", large: "Large tiles" };
const FIGURES_EVERY_MS = 1000;

export class GridView {
  title = "Cameras";
  #store;
  #socket;
  #actions;
  #tiles = new Map();
  #filter = "all";
  #search = "";
  #current = null; // id of the tile that Tab reaches
  #list = h("ul", { class: "grid", role: "list" });
  #none = h("div", { class: "empty", hidden: true });
  #filters = h("div", { class: "segmented", role: "group", "aria-label": "Show" });
  #sizes = h("div", { class: "segmented sizes", role: "group", "aria-label": "Size of the tiles" });
  #seen;
  #timer = 0;
  #listening = new AbortController();

  /**
   * @param {import("./store.js").Store} store
   * @param {import("./camera-v1.js").CameraSocket} socket
   * @param {{add: () => void, focus?: string}} actions
   */
  constructor(store, socket, actions) {
    this.#store = store;
    this.#socket = socket;
    this.#actions = actions;
    this.#current = actions.focus ?? null;
    this.#seen = new IntersectionObserver((entries) => this.#onSeen(entries), { rootMargin: "160px" });
    this.searchField = h("input", {
      type: "search",
      class: "field search",
      placeholder: "Search",
      "aria-label": "Search cameras by name or site",
      autocomplete: "off",
      spellcheck: "false",
      oninput: (event) => {
        this.#search = event.target.value.trim().toLowerCase();
        this.#arrange();
      },
    });
    this.element = h(
      "section",
      { class: "grid-view", "aria-label": "Cameras" },
      h("h1", { class: "sr-only" }, "Cameras"),
      h("div", { class: "toolbar" }, this.#filters, h("label", { class: "search-box" }, icon("search"), this.searchField), this.#sizes),
      this.#list,
      this.#none,
    );
    this.#list.addEventListener("keydown", (event) => this.#onKey(event));
    this.#list.addEventListener("focusin", (event) => this.#setCurrent(event.target.dataset?.camera));
    const options = { signal: this.#listening.signal };
    store.addEventListener("list", () => this.#arrange(), options);
    store.addEventListener("cameras", ({ detail }) => this.#update(detail.ids), options);
    store.addEventListener("session", () => this.#arrange(), options);
    store.addEventListener("boxes", () => this.#eachPicture((picture) => picture.showBoxes(store.boxes)), options);
    this.#timer = setInterval(() => this.#update([...this.#tiles.keys()]), FIGURES_EVERY_MS);
    this.#setSize(remembered("tiles", Object.keys(SIZES), "medium"));
    this.#arrange();
  }

  /** After it was put into the page. */
  entered() {
    if (this.#actions.focus) this.#tiles.get(this.#actions.focus)?.link.focus();
  }

  dispose() {
    this.#listening.abort();
    this.#seen.disconnect();
    clearInterval(this.#timer);
    for (const tile of this.#tiles.values()) {
      this.#socket.unwatch(tile.id);
      tile.dispose();
    }
    this.element.remove();
  }

  onFrame(camera, frame) {
    return this.#tiles.get(camera)?.picture.push(frame);
  }

  // ── What is on show ─────────────────────────────────────────────────────────────────────────────

  #arrange() {
    const cameras = this.#store.cameras;
    for (const [id, tile] of this.#tiles) {
      if (cameras.has(id)) continue;
      this.#seen.unobserve(tile.link);
      this.#socket.unwatch(id);
      tile.dispose();
      this.#tiles.delete(id);
    }
    const ids = [...cameras.keys()].sort();
    let before = null;
    for (const id of ids) {
      let tile = this.#tiles.get(id);
      if (!tile) {
        tile = new Tile(id, this.#store);
        this.#tiles.set(id, tile);
        this.#seen.observe(tile.link);
      }
      const next = before ? before.nextSibling : this.#list.firstChild;
      if (next !== tile.element) this.#list.insertBefore(tile.element, next);
      before = tile.element;
    }
    this.#applyFilter();
  }

  #update(ids) {
    for (const id of ids) {
      const tile = this.#tiles.get(id);
      if (!tile) continue;
      if (this.#socket.clockOffset !== null) tile.picture.clockOffsetMs = this.#socket.clockOffset * 1000;
      tile.update();
    }
    this.#applyFilter();
  }

  #applyFilter() {
    const counts = { all: 0, live: 0, attention: 0 };
    let shown = 0;
    for (const [id, tile] of this.#tiles) {
      const { info } = this.#store.cameras.get(id);
      for (const [name, { test }] of Object.entries(FILTERS)) counts[name] += test(info) ? 1 : 0;
      const words = `${info.camera} ${info.site}`.toLowerCase();
      const visible = FILTERS[this.#filter].test(info) && words.includes(this.#search);
      if (tile.element.hidden === visible) tile.element.hidden = !visible;
      shown += visible ? 1 : 0;
    }
    this.#showFilters(counts);
    this.#showNone(shown);
    this.#setCurrent(this.#isVisible(this.#current) ? this.#current : this.#visible()[0]?.id);
  }

  #showFilters(counts) {
    if (!this.#filters.childElementCount) {
      for (const name of Object.keys(FILTERS)) {
        const choose = () => {
          this.#filter = name;
          this.#applyFilter();
        };
        this.#filters.append(h("button", { type: "button", data: { filter: name }, onclick: choose }));
      }
    }
    for (const item of this.#filters.children) {
      const { filter } = item.dataset;
      item.setAttribute("aria-pressed", String(filter === this.#filter));
      item.dataset.count = counts[filter];
      const text = `${FILTERS[filter].label} ${counts[filter]}`;
      if (item.textContent !== text) {
        item.replaceChildren(`${FILTERS[filter].label} `, h("span", { class: "count" }, String(counts[filter])));
      }
    }
  }

  #showNone(shown) {
    const key = shown ? "" : !this.#store.loaded ? "loading" : this.#store.cameras.size ? "filtered" : "empty";
    if (this.#none.dataset.kind === key + this.#store.role) return;
    this.#none.dataset.kind = key + this.#store.role;
    this.#none.hidden = !key;
    this.element.classList.toggle("is-empty", key === "empty" || key === "loading");
    if (key === "loading") {
      this.#none.replaceChildren(h("p", { class: "empty-text" }, "Looking for cameras…"));
    } else if (key === "filtered") {
      const all = () => {
        this.#filter = "all";
        this.#search = this.searchField.value = "";
        this.#applyFilter();
      };
      this.#none.replaceChildren(
        h("h2", {}, "No camera fits"),
        h("p", { class: "empty-text" }, "No camera matches this search and filter."),
        h("button", { type: "button", class: "button", onclick: all }, "Show all cameras"),
      );
    } else if (key === "empty") {
      this.#none.replaceChildren(...firstCamera(this.#store, this.#actions));
    }
  }

  #onSeen(entries) {
    for (const { target, isIntersecting } of entries) {
      const id = target.dataset.camera;
      if (isIntersecting && this.#tiles.has(id)) this.#socket.watch(id, { maxFps: 10 });
      else this.#socket.unwatch(id);
    }
  }

  #eachPicture(action) {
    for (const tile of this.#tiles.values()) action(tile.picture);
  }

  // ── Keyboard ────────────────────────────────────────────────────────────────────────────────────

  #visible() {
    return [...this.#tiles.values()]
      .filter((tile) => !tile.element.hidden)
      .sort((one, other) => (one.id < other.id ? -1 : 1));
  }

  #isVisible(id) {
    const tile = this.#tiles.get(id);
    return tile !== undefined && !tile.element.hidden;
  }

  #setCurrent(id) {
    if (id === undefined || id === null) return;
    if (this.#current !== id) this.#tiles.get(this.#current)?.link.setAttribute("tabindex", "-1");
    this.#current = id;
    this.#tiles.get(id)?.link.setAttribute("tabindex", "0");
  }

  #onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const tiles = this.#visible();
    const index = tiles.findIndex((tile) => tile.link === document.activeElement);
    if (index < 0) return;
    const columns = getComputedStyle(this.#list).gridTemplateColumns.split(" ").length;
    const target = {
      ArrowLeft: index - 1,
      ArrowRight: index + 1,
      ArrowUp: index - columns,
      ArrowDown: index + columns,
      Home: 0,
      End: tiles.length - 1,
    }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    tiles[target]?.link.focus();
  }

  // ── Size ────────────────────────────────────────────────────────────────────────────────────────

  #setSize(size) {
    this.#list.dataset.size = size;
    remember("tiles", size);
    this.#sizes.replaceChildren(
      ...Object.entries(SIZES).map(([name, label]) =>
        h(
          "button",
          {
            type: "button",
            "aria-label": label,
            title: label,
            "aria-pressed": String(name === size),
            onclick: () => {
              this.#setSize(name);
              this.#sizes.querySelector("[aria-pressed=true]").focus();
            },
          },
          h("span", { class: `size-${name}`, "aria-hidden": "true" }),
        ),
      ),
    );
  }
}

function firstCamera(store, actions) {
  const example = [
    "apiVersion: camfleet.io/v1alpha1",
    "kind: Camera",
    "metadata:",
    "  name: entrance",
    "spec:",
    "  source:",
    "    rtsp:",
    "      url: rtsp://192.168.1.20:554/stream1",
    "      credentialsSecretRef: {name: entrance-login}",
  ].join("\n");
  return [
    h("span", { class: "empty-icon" }, icon("camera")),
    h("h2", {}, "No cameras yet"),
    store.may("admin")
      ? h("p", { class: "empty-text" }, "Add the first one here, or put a Camera file like this into the folder that Camfleet watches.")
      : h("p", { class: "empty-text" }, "An administrator can add one here, or put a Camera file like this into the folder that Camfleet watches."),
    store.may("admin") ? button("plus", "Add a camera", { text: true, class: "button primary", onclick: actions.add }) : null,
    h("pre", { class: "example", tabindex: "0", "aria-label": "Example of a Camera file" }, example),
  ].filter(Boolean);
}
