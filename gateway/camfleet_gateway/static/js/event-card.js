/** One event as a card: its best picture, who or what, where and when. */

import { h, setText } from "./dom.js";
import { eventSymbol, eventText, eventTitle, isAppearance, isInView, personOf, pictureOf, standing } from "./event-words.js";
import { dateOf, shortName, when } from "./words.js";

/** The time alone: the date stands above the cards. */
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export class EventCard {
  #thumbs;
  #picture;
  #title = h("span", { class: "card-title" });
  #time = h("time");
  #text = h("span", { class: "card-text" });
  #tags = h("span", { class: "tags" });
  #address;

  /**
   * @param {object} event @param {import("./thumbs.js").Thumbs} thumbs
   * @param {{address: (event: object) => string, day?: boolean}} options `day`: the date stands on the card
   */
  constructor(event, thumbs, { address, day = false }) {
    this.#thumbs = thumbs;
    this.#address = address;
    this.day = day;
    this.#picture = thumbs.make(null, { symbol: eventSymbol(event) });
    this.link = h(
      "a",
      { class: "card event-card" },
      this.#picture,
      h(
        "span",
        { class: "card-body" },
        h("span", { class: "card-head" }, this.#title, this.#time),
        this.#text,
        this.#tags,
      ),
    );
    this.element = h("li", { class: "card-item" }, this.link);
    this.show(event);
  }

  /** Show this revision; what has not changed stays as it is. */
  show(event) {
    this.event = event;
    this.link.href = this.#address(event);
    this.link.dataset.id = event.id;
    this.link.dataset.revision = event.revision ?? 0;
    this.link.dataset.severity = event.severity ?? "info";
    this.link.dataset.standing = standing(event);
    this.#thumbs.change(this.#picture, pictureOf(event), event.revision ?? 0);
    setText(this.#title, eventTitle(event));
    const date = dateOf(event.time);
    this.#time.dateTime = date.toISOString();
    setText(this.#time, this.day ? when(event.time) : clock.format(date));
    setText(this.#text, [shortName(event.camera), eventText(event)].filter(Boolean).join(" · "));
    this.#tags.replaceChildren(...tagsOf(event));
  }
}

/** Short words about an event, as elements. */
export function tagsOf(event) {
  const tags = [];
  const group = personOf(event)?.group;
  if (group) tags.push(h("span", { class: "tag", data: { group } }, group));
  if (isInView(event)) tags.push(h("span", { class: "badge", data: { state: "live" } }, "In view"));
  if (!isAppearance(event) && (event.severity === "critical" || event.severity === "warning")) {
    tags.push(h("span", { class: "tag", data: { severity: event.severity } }, event.severity));
  }
  return tags;
}
