/** Cards below the day that they are of, newest first. */

import { h } from "./dom.js";
import { dateOf, dayWords } from "./words.js";

export class DayList {
  element = h("div", { class: "days" });
  #cards = new Map(); // id → card

  get size() {
    return this.#cards.size;
  }

  /** The ids from the newest to the oldest, as they stand on the page. */
  get ids() {
    return [...this.element.querySelectorAll("[data-id]")].map((link) => link.dataset.id);
  }

  get cards() {
    return this.#cards.values();
  }

  get(id) {
    return this.#cards.get(id);
  }

  clear() {
    this.#cards.clear();
    this.element.replaceChildren();
  }

  /** Put a card where its time belongs; lists come in order, so this looks at few. */
  add(id, time, card) {
    this.#cards.set(id, card);
    card.element.dataset.time = time;
    const list = this.#listOf(time);
    const items = [...list.children];
    const last = items.at(-1);
    if (!last || Number(last.dataset.time) >= time) list.append(card.element);
    else items.find((item) => Number(item.dataset.time) < time).before(card.element);
  }

  remove(id) {
    const card = this.#cards.get(id);
    if (!card) return null;
    this.#cards.delete(id);
    const section = card.element.closest("section");
    card.element.remove();
    if (!section.querySelector("li")) section.remove();
    return card;
  }

  #listOf(time) {
    const key = dateOf(time).toDateString();
    const start = new Date(key).getTime() / 1000;
    for (const section of this.element.children) {
      if (section.dataset.day === key) return section.querySelector("ul");
      if (Number(section.dataset.start) < start) return this.#makeDay(key, start, time, section);
    }
    return this.#makeDay(key, start, time, null);
  }

  #makeDay(key, start, time, before) {
    const list = h("ul", { class: "cards", role: "list" });
    this.element.insertBefore(
      h("section", { data: { day: key, start } }, h("h2", { class: "day" }, dayWords(time)), list),
      before,
    );
    return list;
  }
}
