/** The bar at the top: where you are, and what the whole page can do. */

import { button, h } from "./dom.js";
import { remember } from "./prefs.js";

export class TopBar {
  #element = document.getElementById("topbar");
  #store;
  #boxes;
  #events;
  #count = h("span", { class: "unseen", hidden: true });
  #theme;
  #add;
  #signOut;

  /** @param {import("./store.js").Store} store @param {Object<string, () => void>} actions */
  constructor(store, actions) {
    this.#store = store;
    this.#boxes = button("boxes", "Boxes", {
      text: true,
      class: "bar-button collapse",
      title: "Boxes (b)",
      onclick: () => store.setBoxes(!store.boxes),
    });
    this.#events = button("bell", "Events", { class: "icon-button", title: "Events (e)", onclick: actions.events });
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
      h("span", { class: "spacer" }),
      h(
        "nav",
        { class: "bar-actions", "aria-label": "Page" },
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
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#showTheme());
    this.#showTheme();
    this.update();
  }

  /** Hide everything but the brand, as before signing in. */
  setSignedIn(signedIn) {
    this.#element.classList.toggle("signed-out", !signedIn);
  }

  update() {
    this.#boxes.setAttribute("aria-pressed", String(this.#store.boxes));
    this.#add.hidden = !this.#store.may("admin");
    this.#signOut.hidden = !this.#store.authentication;
    const count = this.#store.unseenEvents;
    this.#count.hidden = count === 0;
    this.#count.textContent = count > 99 ? "99+" : String(count);
    this.#events.setAttribute("aria-label", count ? `Events, ${count} new` : "Events");
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

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
