/** One camera of the grid. */

import { h, setText } from "./dom.js";
import { Picture } from "./picture.js";
import { Veil } from "./veil.js";
import { age, isFrozen, isTroubled, rate, reasonText, shortName, stateWord, viewers } from "./words.js";

export class Tile {
  #name = h("span", { class: "tile-name" });
  #site = h("span", { class: "tile-site" });
  #badge = h("span", { class: "badge" });
  #fps = h("span", { class: "figure" });
  #viewers = h("span", { class: "figure" });
  #age = h("span", { class: "figure" });
  #veil = new Veil();

  /** @param {string} id @param {import("./store.js").Store} store */
  constructor(id, store) {
    this.id = id;
    this.store = store;
    this.picture = new Picture(id);
    this.picture.showBoxes(store.boxes);
    this.link = h(
      "a",
      { class: "tile", href: `#/camera/${encodeURIComponent(id)}`, tabindex: "-1", data: { camera: id } },
      h("span", { class: "tile-picture" }, this.picture.element, this.#veil.element),
      h(
        "span",
        { class: "tile-caption" },
        h("span", { class: "tile-line" }, this.#name, this.#badge),
        h(
          "span",
          { class: "tile-line tile-figures" },
          this.#site,
          h("span", { class: "figures" }, this.#fps, this.#viewers, this.#age),
        ),
      ),
    );
    this.element = h("li", { class: "tile-item" }, this.link);
    this.update();
  }

  /** Bring words and figures up to date. */
  update() {
    const info = this.store.cameras.get(this.id)?.info;
    if (!info) return;
    const { state } = info;
    const name = shortName(info.camera);
    this.link.dataset.state = state;
    this.link.dataset.picture = this.picture.hasPicture ? "yes" : "no";
    setText(this.#name, name);
    setText(this.#site, info.site);
    setText(this.#badge, stateWord(info));
    this.#badge.dataset.state = state;
    this.#badge.dataset.trouble = isTroubled(info) || isFrozen(info) ? "yes" : "no";
    const live = state === "live";
    setText(this.#fps, live ? `${rate(info.fps)} fps` : "");
    setText(this.#viewers, live && info.viewers ? viewers(info.viewers) : "");
    setText(this.#age, live ? age(pictureAge(this.store, this.picture, info.camera)) : "");
    this.#age.title = "Age of the newest picture";
    this.#veil.update(info, this.store.frameAge(this.id));
    const words = [name, info.site, stateWord(info), live ? "" : reasonText(info)].filter(Boolean).join(", ");
    if (this.link.getAttribute("aria-label") !== words) this.link.setAttribute("aria-label", words);
  }

  dispose() {
    this.picture.dispose();
    this.element.remove();
  }
}

/**
 * Age of the picture on show: measured against the gateway's clock while pictures come, else what was reported.
 *
 * @returns {number | null} milliseconds
 */
export function pictureAge(store, picture, id) {
  if (picture.hasPicture && performance.now() - picture.drawnAt < 2000) return picture.delayMs;
  return store.frameAge(id);
}
