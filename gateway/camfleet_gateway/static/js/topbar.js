/** The bar at the top: where you are, and what the whole page can do. */

import { button, h, icon } from "./dom.js";
import { remember } from "./prefs.js";
import { PLACES } from "./routes.js";

export class TopBar {
  #element = document.getElementById("topbar");
  #store;
  #boxes;
  #events;
  #count = h("span", { class: "unseen", hidden: true });
  #theme;
  #add;
  #signOut;
  #places = new Map(); // name → link
  #alerts = h("span", { class: "unseen urgent", hidden: true });

  /** @param {import("./store.js").Store} store @param {Object<string, () => void>} actions */
  constructor(store, actions) {
    this.#store = store;
    this.#boxes = button("boxes", "Boxes", {
      text: true,
      class: "bar-button collapse",
      title: "Boxes (b)",
      onclick: () => store.setBoxes(!store.boxes),
    });
    this.#events = button("activity", "Latest events", {
      class: "icon-button",
      title: "Latest events (e)",
      onclick: actions.events,
    });
    this.#events.append(this.#count);
    this.#theme = button("moon", "Dark theme", { class: "icon-button", onclick: () => this.#toggleTheme() });
    this.#add = button("plus", "Add camera", { text: true, class: "button primary collapse", onclick: actions.add });
    this.#signOut = button("exit", "Sign out", { class: "icon-button", onclick: actions.signOut });
    this.#element.append(
      h(
        "a",
        { class: "brand", href: "#/", "aria-label": "Camfleet, all cameras" },
        h("img", { src: "/static/icon.svg", alt: "", width: 28, height: 28 }),
        h("span", {}, "Camfleet"),
      ),
      h("nav", { class: "places", "aria-label": "Camfleet" }, ...PLACES.map((place) => this.#place(place))),
      h("span", { class: "spacer" }),
      h(
        "div",
        { class: "bar-actions", role: "group", "aria-label": "Page" },
        this.#boxes,
        this.#events,
        this.#theme,
        button("help", "Keyboard help", { class: "icon-button wide-only", title: "Keyboard help (?)", onclick: actions.help }),
        this.#signOut,
        this.#add,
      ),
    );
    store.addEventListener("session", () => this.update());
    store.addEventListener("boxes", () => this.update());
    store.addEventListener("events", () => this.update());
    store.addEventListener("alerts", () => this.update());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#showTheme());
    this.#showTheme();
    this.update();
  }

  #place({ name, label, symbol, href }) {
    const link = h("a", { class: "place", href, data: { place: name } }, icon(symbol), h("span", {}, label));
    if (name === "alerts") link.append(this.#alerts);
    this.#places.set(name, link);
    return link;
  }

  /** Say where one is; boxes and new cameras are about pictures. */
  setPlace(place) {
    const current = { camera: "cameras", person: "people" }[place] ?? place;
    for (const [name, link] of this.#places) {
      if (name === current) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    this.#element.dataset.place = current;
  }

  /** Hide everything but the brand, as before signing in. */
  setSignedIn(signedIn) {
    this.#element.classList.toggle("signed-out", !signedIn);
  }

  update() {
    this.#boxes.setAttribute("aria-pressed", String(this.#store.boxes));
    this.#add.hidden = !this.#store.may("admin");
    this.#signOut.hidden = !this.#store.authentication;
    for (const { name, role } of PLACES) this.#places.get(name).hidden = Boolean(role) && !this.#store.may(role);
    const count = this.#store.unseenEvents;
    this.#count.hidden = count === 0;
    this.#count.textContent = many(count);
    this.#events.setAttribute("aria-label", count ? `Latest events, ${count} new` : "Latest events");
    const alerts = this.#store.openAlerts;
    this.#alerts.hidden = alerts === 0;
    this.#alerts.textContent = many(alerts);
    this.#places.get("alerts").setAttribute("aria-label", alerts ? `Alerts, ${many(alerts)} open` : "Alerts");
  }

  setEventsOpen(open) {
    this.#events.setAttribute("aria-expanded", String(open));
  }

  focusEvents() {
    this.#events.focus();
  }

  #toggleTheme() {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    remember("theme", theme);
    this.#showTheme();
  }

  #showTheme() {
    const label = isDark() ? "Light theme" : "Dark theme";
    const fresh = button(isDark() ? "sun" : "moon", label);
    this.#theme.replaceChildren(...fresh.childNodes);
    this.#theme.setAttribute("aria-label", label);
    this.#theme.title = label;
  }
}

const many = (count) => (count > 99 ? "99+" : String(count));

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
