/** Dialogs about cameras: add one, remove one; and keyboard help. */

import { ApiError, addCamera, removeCamera } from "./api.js";
import { showDialog } from "./dialog.js";
import { h, setText, toast } from "./dom.js";
import { shortName } from "./words.js";

// ── Help ────────────────────────────────────────────────────────────────────────────────────────────

const KEYS = [
  ["← → ↑ ↓", "Move between cameras"],
  ["Enter", "Open the camera"],
  ["Esc", "Back to all cameras"],
  ["1 … 5", "Cameras, events, people, alerts, search by picture"],
  ["/", "Search cameras or people"],
  ["b", "Boxes on or off"],
  ["e", "Latest events beside the page"],
  ["← →", "Newer and older event, in an event"],
  ["f", "Full screen, on a camera’s page"],
  ["?", "This list"],
];

export function showHelp(version) {
  if (document.querySelector("dialog.help")) return;
  showDialog(
    "Keyboard",
    "help",
    h("dl", { class: "keys" }, ...KEYS.map(([key, what]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)))),
    h("p", { class: "fine" }, `Camfleet ${version} · `, h("a", { href: "/docs", target: "_blank", rel: "noopener" }, "API reference")),
  );
}

// ── Remove ──────────────────────────────────────────────────────────────────────────────────────────

export function confirmRemove(id, whenRemoved) {
  const name = shortName(id);
  const go = h("button", { type: "button", class: "button danger solid" }, "Remove");
  const dialog = showDialog(
    `Remove ${name}?`,
    "remove",
    h("p", {}, "Its worker stops and everybody who watches loses the picture. A Camera file that you wrote yourself stays where it is."),
    h(
      "div",
      { class: "dialog-actions" },
      h("button", { type: "button", class: "button", autofocus: true, onclick: () => dialog.close() }, "Keep"),
      go,
    ),
  );
  go.addEventListener("click", async () => {
    go.disabled = true;
    try {
      await removeCamera(id);
      dialog.close();
      toast(`${name} was removed`);
      whenRemoved();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      go.disabled = false;
      toast(error.message, "error");
    }
  });
}

// ── Add ─────────────────────────────────────────────────────────────────────────────────────────────

const KINDS = { rtsp: "RTSP camera", file: "Video file", testPattern: "Test pattern" };

export function showAdd() {
  if (document.querySelector("dialog.add")) return;
  new AddDialog();
}

class AddDialog {
  #fields = new Map(); // path in the object → {input, error}
  #kind = "rtsp";
  #parts = new Map(); // kind → fieldset
  #summary = h("div", { class: "form-error", role: "alert", hidden: true });
  #submit = h("button", { type: "submit", class: "button primary" }, "Add camera");

  constructor() {
    const form = h(
      "form",
      { class: "form", novalidate: true, onsubmit: (event) => this.#onSubmit(event) },
      this.#summary,
      this.#field("metadata.name", "Name", {
        placeholder: "front-door",
        hint: "Small letters, digits and hyphens.",
        maxlength: 63,
        autofocus: true,
      }),
      this.#kinds(),
      this.#part(
        "rtsp",
        this.#field("spec.source.rtsp.url", "Address", {
          placeholder: "rtsp://192.168.1.20:554/stream1",
          hint: "Without user and password.",
          inputmode: "url",
          maxlength: 2048,
        }),
        this.#field("spec.source.rtsp.credentialsSecretRef.name", "Secret with user and password", {
          placeholder: "optional",
          hint: "The name of a Secret; on one machine, of a folder below secrets/.",
          maxlength: 63,
        }),
      ),
      this.#part(
        "file",
        this.#field("spec.source.file.path", "Path", {
          placeholder: "media/lobby.mp4",
          hint: "On the machine of the worker; it plays in a loop.",
          maxlength: 1024,
        }),
      ),
      this.#part(
        "testPattern",
        h(
          "div",
          { class: "form-row" },
          this.#field("spec.source.testPattern.width", "Width", { type: "number", value: "1280", min: 64, max: 3840, step: 2 }),
          this.#field("spec.source.testPattern.height", "Height", { type: "number", value: "720", min: 64, max: 2160, step: 2 }),
          this.#field("spec.source.testPattern.fps", "Per second", { type: "number", value: "15", min: 1, max: 60 }),
        ),
      ),
      this.#field("spec.site", "Site", { placeholder: "optional", hint: "A label to find it by.", maxlength: 63 }),
      h(
        "div",
        { class: "dialog-actions" },
        h("button", { type: "button", class: "button", onclick: () => this.dialog.close() }, "Cancel"),
        this.#submit,
      ),
    );
    this.#choose("rtsp");
    this.dialog = showDialog("Add a camera", "add", form);
  }

  #kinds() {
    return h(
      "fieldset",
      { class: "segmented kinds" },
      h("legend", { class: "label" }, "Source"),
      ...Object.entries(KINDS).map(([kind, label]) =>
        h(
          "label",
          {},
          h("input", {
            type: "radio",
            name: "kind",
            value: kind,
            checked: kind === this.#kind,
            onchange: () => this.#choose(kind),
          }),
          h("span", {}, label),
        ),
      ),
    );
  }

  #part(kind, ...content) {
    const part = h("div", { class: "form-part" }, ...content);
    this.#parts.set(kind, part);
    return part;
  }

  #choose(kind) {
    this.#kind = kind;
    for (const [name, part] of this.#parts) part.hidden = name !== kind;
  }

  #field(path, label, { hint = "", type = "text", value = "", ...attributes }) {
    const id = `field-${path.replaceAll(".", "-")}`;
    const error = h("span", { class: "field-error", id: `${id}-error`, hidden: true });
    const note = hint ? h("span", { class: "hint", id: `${id}-hint` }, hint) : null;
    const input = h("input", {
      id,
      type,
      class: "field",
      autocomplete: "off",
      autocapitalize: "none",
      spellcheck: "false",
      "aria-describedby": `${note ? `${id}-hint ` : ""}${id}-error`,
      value,
      ...attributes,
      oninput: () => this.#clear(path),
    });
    this.#fields.set(path, { input, error });
    return h("div", { class: "form-field" }, h("label", { for: id }, label), input, note, error);
  }

  #value(path) {
    const { input } = this.#fields.get(path);
    const text = input.value.trim();
    if (text === "") return undefined;
    return input.type === "number" ? Number(text) : text;
  }

  #document() {
    const document = { name: this.#value("metadata.name") ?? "", spec: {} };
    for (const path of this.#fields.keys()) {
      if (!path.startsWith("spec.")) continue;
      if (path.startsWith("spec.source.") && !path.startsWith(`spec.source.${this.#kind}.`)) continue;
      const value = this.#value(path);
      if (value === undefined) continue;
      const keys = path.split(".");
      let block = document;
      for (const key of keys.slice(0, -1)) block = block[key] ??= {};
      block[keys.at(-1)] = value;
    }
    document.spec.source ??= { [this.#kind]: {} };
    return document;
  }

  async #onSubmit(event) {
    event.preventDefault();
    for (const path of this.#fields.keys()) this.#clear(path);
    this.#summary.hidden = true;
    this.#submit.disabled = true;
    try {
      const camera = await addCamera(this.#document());
      this.dialog.close();
      toast(`${camera.name} was added`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#complain(error);
    } finally {
      this.#submit.disabled = false;
    }
  }

  /** Put each problem at its field; what belongs to none goes to the top. */
  #complain(error) {
    const rest = [];
    for (const problem of error.problems) {
      const [path, ...words] = problem.split(": ");
      const field = this.#fields.get(path) ?? this.#fields.get(path.replace(/^name$/, "metadata.name"));
      if (!field) {
        rest.push(problem);
        continue;
      }
      setText(field.error, plain(words.join(": ")));
      field.error.hidden = false;
      field.input.setAttribute("aria-invalid", "true");
    }
    if (error.code === "exists" || error.status === 409) {
      const name = this.#fields.get("metadata.name");
      setText(name.error, "There is a camera of this name already");
      name.error.hidden = false;
      name.input.setAttribute("aria-invalid", "true");
    } else if (rest.length || !error.problems.length) {
      setText(this.#summary, rest.length ? rest.map(plain).join(". ") : error.message);
      this.#summary.hidden = false;
    }
    this.dialog.querySelector("[aria-invalid]")?.focus();
  }

  #clear(path) {
    const field = this.#fields.get(path);
    field.error.hidden = true;
    field.input.removeAttribute("aria-invalid");
  }
}

/** What the models say, in the words of a form. */
function plain(problem) {
  if (problem === "is missing" || problem.startsWith("String should have at least 1")) return "Please fill this in";
  if (problem.startsWith("must be a DNS label")) {
    return "Only small letters, digits and hyphens, beginning and ending with a letter or digit";
  }
  const text = problem.replace(/^Input should be/, "Must be");
  return text.charAt(0).toUpperCase() + text.slice(1);
}
