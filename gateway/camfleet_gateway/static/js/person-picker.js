/** A dialog to choose somebody who is enrolled, or to name somebody new. */

import { ApiError } from "./api.js";
import { listPeople } from "./api-records.js";
import { showDialog } from "./dialog.js";
import { h, icon, setText } from "./dom.js";
import { groupField, personSummary } from "./people-words.js";
import { Thumbs } from "./thumbs.js";

const AT_MOST = 30;
const TYPING_MS = 200;

/**
 * Ask who.
 *
 * @param {{title: string, hint?: string, allowNew?: boolean, pick: (chosen: object) => void}} what `pick` gets a person of
 *   the API, or `{name, group}` of somebody new
 */
export function pickPerson({ title, hint = "", allowNew = false, pick }) {
  const thumbs = new Thumbs();
  const list = h("ul", { class: "picker-list", "aria-label": "People" });
  const status = h("p", { class: "events-none", role: "status" });
  let run = new AbortController();
  let timer = 0;
  const choose = (chosen) => {
    dialog.close();
    pick(chosen);
  };
  const field = h("input", {
    type: "search",
    class: "field search",
    placeholder: "Search by name",
    "aria-label": "Search people by name",
    autocomplete: "off",
    spellcheck: "false",
    oninput: () => {
      clearTimeout(timer);
      timer = setTimeout(() => find(), TYPING_MS);
    },
  });

  async function find() {
    run.abort();
    run = new AbortController();
    const { signal } = run;
    try {
      const { people } = await listPeople({ query: field.value.trim(), limit: AT_MOST }, { signal });
      if (signal.aborted) return;
      thumbs.forget(list);
      list.replaceChildren(...people.map((person) => h("li", {}, item(person))));
      setText(status, people.length ? "" : field.value.trim() ? "Nobody of this name is enrolled." : "Nobody is enrolled yet.");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (!signal.aborted) setText(status, error.message);
    }
  }

  const item = (person) =>
    h(
      "button",
      { type: "button", class: "picker-item", onclick: () => choose(person) },
      thumbs.make(person.thumbnail_url ?? null, { symbol: "person", class: "round" }),
      h("span", { class: "picker-name" }, person.name),
      h("span", { class: "hint" }, personSummary(person)),
    );

  const dialog = showDialog(
    title,
    "picker",
    hint ? h("p", {}, hint) : "",
    h("label", { class: "search-box" }, icon("search"), field),
    list,
    status,
    allowNew ? newPerson(choose, () => field.value.trim()) : "",
  );
  dialog.addEventListener("close", () => {
    clearTimeout(timer);
    run.abort();
    thumbs.dispose();
  });
  field.focus();
  find();
  return dialog;
}

function newPerson(choose, typed) {
  const name = h("input", { class: "field", id: "picker-name", maxlength: 128, autocomplete: "off", required: true });
  const group = groupField("picker-group");
  const form = h(
    "form",
    {
      class: "form picker-new",
      onsubmit: (event) => {
        event.preventDefault();
        if (name.value.trim()) choose({ name: name.value.trim(), group: group.value() });
      },
    },
    h("div", { class: "form-field" }, h("label", { for: name.id }, "Name"), name),
    group.element,
    h("div", { class: "dialog-actions" }, h("button", { type: "submit", class: "button primary" }, "Add as a new person")),
  );
  const holder = h("details", { class: "picker-more" }, h("summary", {}, "Somebody new"), form);
  holder.addEventListener("toggle", () => {
    if (!holder.open) return;
    if (!name.value) name.value = typed();
    name.focus();
  });
  return holder;
}
