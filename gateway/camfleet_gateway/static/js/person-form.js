/** The form about somebody: name, group, validity, note. Used to add and to change. */

import { h, setText } from "./dom.js";
import { groupField } from "./people-words.js";

const DAY_SECONDS = 24 * 3600;

/** Fields of a person; `values()` is what the API takes. */
export class PersonForm {
  #fields = new Map();
  #group;
  #summary = h("div", { class: "form-error", role: "alert", hidden: true });

  /** @param {string} prefix of the ids @param {object} [person] */
  constructor(prefix, person = {}) {
    this.#group = groupField(`${prefix}-group`, person.group ?? "staff");
    this.#fields.set("group", { input: this.#group.input, error: null });
    this.parts = [
      this.#summary,
      this.#field(prefix, "name", "Name", { value: person.name ?? "", maxlength: 128 }),
      this.#group.element,
      h(
        "div",
        { class: "form-row two" },
        this.#field(prefix, "valid_from", "Valid from", { type: "date", value: dateOf(person.valid_from) }),
        this.#field(prefix, "valid_until", "Valid until", { type: "date", value: dateOf(person.valid_until) }),
      ),
      this.#field(prefix, "external_id", "Number elsewhere", {
        value: person.external_id ?? "",
        maxlength: 128,
        placeholder: "optional",
        hint: "The key of this person in another system.",
      }),
      this.#field(prefix, "note", "Note", { value: person.note ?? "", maxlength: 512, placeholder: "optional" }),
    ];
  }

  get nameField() {
    return this.#fields.get("name").input;
  }

  values() {
    const text = (name) => this.#fields.get(name).input.value.trim();
    return {
      name: text("name"),
      group: this.#group.value(),
      note: text("note"),
      external_id: text("external_id") || null,
      valid_from: secondsOf(text("valid_from"), 0),
      valid_until: secondsOf(text("valid_until"), DAY_SECONDS - 1),
    };
  }

  clear() {
    this.#summary.hidden = true;
    for (const { input, error } of this.#fields.values()) {
      input.removeAttribute("aria-invalid");
      if (error) error.hidden = true;
    }
  }

  /** Put each problem at its field; what belongs to none goes to the top. */
  complain({ message, problems = [] }) {
    const rest = [];
    for (const problem of problems) {
      const [path, ...words] = problem.split(": ");
      const field = this.#fields.get(path);
      if (!field) {
        rest.push(problem);
        continue;
      }
      field.input.setAttribute("aria-invalid", "true");
      if (field.error) {
        setText(field.error, plain(words.join(": ")));
        field.error.hidden = false;
      } else rest.push(plain(words.join(": ")));
    }
    if (rest.length || !problems.length) {
      setText(this.#summary, rest.length ? rest.join(". ") : capital(message));
      this.#summary.hidden = false;
    }
    [...this.#fields.values()].find(({ input }) => input.hasAttribute("aria-invalid"))?.input.focus();
  }

  #field(prefix, name, label, { hint = "", type = "text", ...attributes }) {
    const id = `${prefix}-${name.replace("_", "-")}`;
    const error = h("span", { class: "field-error", id: `${id}-error`, hidden: true });
    const note = hint ? h("span", { class: "hint", id: `${id}-hint` }, hint) : null;
    const input = h("input", {
      id,
      type,
      class: "field",
      autocomplete: "off",
      "aria-describedby": `${note ? `${id}-hint ` : ""}${id}-error`,
      ...attributes,
    });
    this.#fields.set(name, { input, error });
    return h("div", { class: "form-field" }, h("label", { for: id }, label), input, note, error);
  }
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function plain(problem) {
  if (/is missing|must not be empty|at least 1 char/.test(problem)) return "Please fill this in";
  return capital(problem.replace(/^Value error, /, ""));
}

/** A day of this browser's time zone, as a date field has it. */
function dateOf(unixSeconds) {
  if (!unixSeconds) return "";
  const date = new Date(unixSeconds * 1000);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 10);
}

function secondsOf(text, later) {
  if (!text) return null;
  const [year, month, day] = text.split("-").map(Number);
  return Math.floor(new Date(year, month - 1, day).getTime() / 1000) + later;
}
