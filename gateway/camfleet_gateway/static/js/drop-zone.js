/** A place to drop files on, which is also a button to choose them. */

import { h, icon, setText } from "./dom.js";

export class DropZone {
  #input;
  #label = h("span", { class: "drop-label" });
  #text;

  /**
   * @param {{id: string, label: string, hint: string, accept: string, multiple?: boolean, take: (files: File[]) => void}} what
   */
  constructor({ id, label, hint, accept, multiple = false, take }) {
    this.#text = label;
    this.#input = h("input", {
      type: "file",
      id,
      class: "drop-input",
      accept,
      multiple,
      onchange: () => {
        take([...this.#input.files]);
        this.#input.value = ""; // so that the same file can be chosen again
      },
    });
    setText(this.#label, label);
    this.element = h("label", { class: "drop-zone", for: id }, icon("upload"), this.#label, h("span", { class: "hint" }, hint), this.#input);
    let depth = 0; // of the elements that the pointer has entered
    const over = (on) => this.element.classList.toggle("over", on);
    this.element.addEventListener("dragenter", (event) => {
      event.preventDefault();
      depth += 1;
      over(true);
    });
    this.element.addEventListener("dragover", (event) => event.preventDefault());
    this.element.addEventListener("dragleave", () => {
      depth -= 1;
      if (depth <= 0) over(false);
    });
    this.element.addEventListener("drop", (event) => {
      event.preventDefault();
      depth = 0;
      over(false);
      if (!this.#input.disabled) take([...event.dataTransfer.files].slice(0, multiple ? undefined : 1));
    });
  }

  busy(on) {
    this.#input.disabled = on;
    this.element.classList.toggle("busy", on);
    setText(this.#label, on ? "Please wait…" : this.#text);
  }

  focus() {
    this.#input.focus({ preventScroll: true });
  }
}
