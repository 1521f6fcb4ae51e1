/** Enrolling pictures of somebody: several at once, each with its result and, where it was refused, why. */

import { ApiError } from "./api.js";
import { addFace } from "./api-records.js";
import { button, h, setText } from "./dom.js";
import { DropZone } from "./drop-zone.js";
import { MAY_FORCE, refusal } from "./people-words.js";
import { showBlob } from "./thumbs.js";

const MAX_BYTES = 20 * 1024 * 1024;
const MAX_ROWS = 200;

export class Enrol {
  #person;
  #added;
  #queue = []; // {file, row, force}
  #running = false;
  #disposed = new AbortController();
  #rows = h("ul", { class: "enrol-rows", "aria-label": "Results" });
  #summary = h("p", { class: "sr-only", role: "status" });
  #zone;

  /** @param {string} person id @param {() => void} added after each picture that was taken */
  constructor(person, added) {
    this.#person = person;
    this.#added = added;
    this.#zone = new DropZone({
      id: "enrol-files",
      label: "Choose pictures",
      hint: "or drop them here: JPEG, PNG or WebP with one face each, three to five of different days are good",
      accept: "image/jpeg,image/png,image/webp,.jpg,.jpeg,.png,.webp",
      multiple: true,
      take: (files) => this.#take(files),
    });
    this.element = h("div", { class: "enrol" }, this.#zone.element, this.#rows, this.#summary);
  }

  focus() {
    this.#zone.focus();
  }

  dispose() {
    this.#disposed.abort();
    this.#queue = [];
  }

  #take(files) {
    for (const file of files) {
      const row = new Row(file, () => this.#put(file, row, true));
      this.#rows.prepend(row.element);
      while (this.#rows.childElementCount > MAX_ROWS) this.#rows.lastChild.remove();
      if (file.size > MAX_BYTES) row.refused({ code: "TooLarge", message: "" });
      else this.#put(file, row, false);
    }
  }

  #put(file, row, force) {
    row.waiting();
    this.#queue.push({ file, row, force });
    this.#next();
  }

  /** One after the other: each is compared with those before it. */
  async #next() {
    if (this.#running) return;
    this.#running = true;
    let [taken, refused] = [0, 0];
    for (let item; (item = this.#queue.shift()); ) {
      item.row.sending();
      try {
        const face = await addFace(this.#person, item.file, { force: item.force, signal: this.#disposed.signal });
        item.row.taken(face);
        taken += 1;
        this.#added();
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.code === "aborted") break;
        item.row.refused(error);
        refused += 1;
      }
    }
    this.#running = false;
    setText(this.#summary, `${taken} added${refused ? `, ${refused} refused` : ""}`);
  }
}

/** One picture and what became of it. */
class Row {
  #state = h("strong", {});
  #text = h("p", { class: "hint" });
  #again;

  constructor(file, force) {
    const image = h("img", { alt: "", hidden: true });
    const picture = h("span", { class: "thumb" }, image);
    this.#again = button("check", "Add it all the same", { text: true, class: "button small", hidden: true, onclick: force });
    this.element = h(
      "li",
      { class: "enrol-row" },
      picture,
      h("div", { class: "enrol-words" }, h("p", {}, this.#state, " ", h("span", { class: "hint" }, file.name)), this.#text),
      this.#again,
    );
    if (file.size <= MAX_BYTES) showBlob(image, file, picture);
  }

  waiting() {
    this.#say("waiting", "Waiting…");
  }

  sending() {
    this.#say("sending", "Looking for the face…");
  }

  taken({ quality }) {
    const score = quality?.score ?? quality;
    this.#say("taken", "Added", typeof score === "number" ? `Quality ${Math.round(score * 100)} %.` : "");
  }

  refused(error) {
    const { title, text } = refusal(error);
    this.#say("refused", title, text);
    this.#again.hidden = !MAY_FORCE.has(error.code);
  }

  #say(result, words, text = "") {
    this.element.dataset.result = result;
    setText(this.#state, words);
    setText(this.#text, text);
    this.#text.hidden = !text;
    this.#again.hidden = true;
  }
}
