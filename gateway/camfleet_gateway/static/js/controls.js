/** What an operator may change of a running camera. Each change is sent at once and shown as it takes effect. */

import { ApiError, changeCamera } from "./api.js";
import { h, setText, toast } from "./dom.js";
import { detectorWords } from "./words.js";

const KNOWN_DETECTORS = ["yunet", "motion"];
const WIDTHS = [320, 480, 640, 960, 1280, 1920];
const SETTLE_MS = 5000;

export class Controls {
  #id;
  #fields = [];
  #status = h("span", { class: "apply", role: "status" });
  #pending = 0;
  #settleUntil = 0;

  constructor(id) {
    this.#id = id;
    const ai = this.#switch("Detection", ["inference", "enabled"]);
    const confidence = { min: 0.05, max: 1, step: 0.05, show: (value) => `${Math.round(value * 100)} %` };
    const fps = { min: 1, max: 30, step: 1, show: (value) => `${+value.toFixed(1)} / s` };
    this.element = h(
      "section",
      { class: "panel controls", "aria-label": "Controls" },
      h("div", { class: "panel-head" }, h("h2", {}, "Controls"), this.#status),
      ai,
      this.#detectors(["inference", "detectors"]),
      this.#range("Detection rate", ["inference", "fps"], { ...fps, max: 15 }),
      this.#range("Minimum confidence", ["inference", "confidence"], confidence),
      h("hr"),
      this.#range("Picture rate", ["stream", "fps"], fps),
      this.#width(["stream", "width"]),
      this.#range("JPEG quality", ["stream", "quality"], { min: 10, max: 100, step: 5, show: (value) => String(value) }),
    );
  }

  /** Follow the settings in force, except where a change is under way. */
  update(settings) {
    if (this.#pending || performance.now() < this.#settleUntil) {
      if (this.#pending || !this.#fields.every((field) => field.agrees(settings))) return;
      this.#settleUntil = 0;
    }
    for (const field of this.#fields) field.set(settings);
  }

  // ── Fields ──────────────────────────────────────────────────────────────────────────────────────

  #switch(label, path) {
    const input = h("input", { type: "checkbox", role: "switch", class: "switch", id: fieldId(path) });
    input.addEventListener("change", () => this.#send(path, input.checked));
    this.#follow(path, () => input.checked, (value) => {
      input.checked = value;
    });
    return h("div", { class: "control inline" }, h("label", { for: input.id }, label), input);
  }

  #range(label, path, { min, max, step, show }) {
    const input = h("input", { type: "range", id: fieldId(path), min, max, step });
    const output = h("output", { for: input.id });
    const paint = () => {
      setText(output, show(Number(input.value)));
      const share = (Number(input.value) - Number(input.min)) / (Number(input.max) - Number(input.min));
      input.style.setProperty("--share", `${share * 100}%`);
    };
    input.addEventListener("input", paint);
    input.addEventListener("change", () => this.#send(path, Number(input.value)));
    this.#follow(path, () => Number(input.value), (value) => {
      if (document.activeElement === input && input.matches(":active")) return;
      if (value > Number(input.max)) input.max = value;
      input.value = value;
      paint();
    });
    return h("div", { class: "control" }, h("label", { for: input.id }, label), output, input);
  }

  #width(path) {
    const select = h("select", { class: "field", id: fieldId(path) });
    const option = (value, text) => h("option", { value: String(value) }, text);
    select.append(...WIDTHS.map((width) => option(width, `${width} px`)), option(0, "As the source"));
    select.addEventListener("change", () => this.#send(path, Number(select.value)));
    this.#follow(path, () => Number(select.value), (value) => {
      const known = [...select.options].some((one) => one.value === String(value));
      if (!known) select.prepend(option(value, `${value} px`));
      select.value = String(value);
    });
    return h("div", { class: "control inline" }, h("label", { for: select.id }, "Width"), select);
  }

  #detectors(path) {
    const group = h("div", { class: "chips", role: "group", "aria-label": "What is looked for" });
    const chosen = () => [...group.querySelectorAll("input:checked")].map((input) => input.value);
    const add = (name) => {
      const input = h("input", { type: "checkbox", value: name, onchange: () => this.#send(path, chosen()) });
      group.append(h("label", { class: "chip" }, input, h("span", {}, detectorWords(name))));
      return input;
    };
    const inputs = new Map(KNOWN_DETECTORS.map((name) => [name, add(name)]));
    this.#follow(path, () => chosen().sort(), (value) => {
      for (const name of value) if (!inputs.has(name)) inputs.set(name, add(name));
      for (const [name, input] of inputs) input.checked = value.includes(name);
    });
    return h("div", { class: "control" }, h("span", { class: "label" }, "Look for"), group);
  }

  #follow(path, get, set) {
    const read = (settings) => path.reduce((block, key) => block?.[key], settings);
    this.#fields.push({
      agrees: (settings) => {
        const value = read(settings);
        const normal = Array.isArray(value) ? [...value].sort() : value;
        return value === undefined || JSON.stringify(normal) === JSON.stringify(get());
      },
      set: (settings) => {
        const value = read(settings);
        if (value !== undefined) set(value);
      },
    });
  }

  async #send(path, value) {
    const controls = path.reduceRight((inner, key) => ({ [key]: inner }), value);
    this.#pending += 1;
    setText(this.#status, "Applying…");
    let camera = null;
    try {
      camera = await changeCamera(this.#id, controls);
      this.#settleUntil = performance.now() + SETTLE_MS;
      setText(this.#status, "Applied");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#settleUntil = 0;
      setText(this.#status, "");
      toast(error.problems.length ? error.problems.join("; ") : error.message, "error");
    } finally {
      this.#pending -= 1;
    }
    if (camera?.settings) this.update(camera.settings);
    setTimeout(() => this.#pending || setText(this.#status, ""), 2500);
  }
}

function fieldId(path) {
  return `control-${path.join("-")}`;
}
