/** What lies over a picture that is not live: says in words what is wrong, and looks different per state. */

import { h, icon, setText } from "./dom.js";
import { detailText, duration, isTroubled, reasonText } from "./words.js";

const ICONS = { stale: "clock", connecting: "camera", offline: "off", suspended: "pause" };

export class Veil {
  #title = h("strong", { class: "veil-title" });
  #text = h("span", { class: "veil-text" });
  #detail = h("span", { class: "veil-detail" });
  #icon = h("span", { class: "veil-icon" });
  #state = "";

  constructor() {
    this.element = h(
      "div",
      { class: "veil", hidden: true },
      this.#icon,
      h("div", { class: "veil-words" }, this.#title, this.#text, this.#detail),
    );
  }

  /**
   * @param {object} info CameraInfo
   * @param {number | null} ageMs since the last picture
   */
  update(info, ageMs) {
    const { state } = info;
    this.element.hidden = state === "live";
    if (state === "live") {
      this.#state = state;
      return;
    }
    this.element.dataset.trouble = isTroubled(info) ? "yes" : "no";
    if (state !== this.#state) {
      this.#state = state;
      this.element.dataset.state = state;
      this.#icon.replaceChildren(icon(ICONS[state] ?? "camera"));
    }
    setText(this.#title, title(info, ageMs));
    const reason = reasonText(info);
    setText(this.#text, state === "suspended" ? "" : reason);
    setText(this.#detail, state === "suspended" ? "" : detailText(info));
  }
}

function title(info, ageMs) {
  switch (info.state) {
    case "stale":
      return ageMs === null ? "No picture" : `No picture for ${duration(ageMs / 1000)}`;
    case "connecting":
      return isTroubled(info) ? "No picture yet" : "Connecting…";
    case "offline":
      return "Offline";
    default:
      return "Paused";
  }
}
