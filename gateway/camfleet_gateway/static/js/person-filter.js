/** The filter by person: a button that tells who, and asks when it is pressed. */

import { ApiError } from "./api.js";
import { getPerson } from "./api-records.js";
import { h, setText } from "./dom.js";
import { pickPerson } from "./person-picker.js";

const names = new Map(); // id → name, of this tab

export function personFilter(label = "Person") {
  const text = h("span", {}, "Anyone");
  const open = h("button", { type: "button", class: "field field-button", id: "filter-person", "aria-label": `${label}: anyone` }, text);
  let current = "";
  const say = (id, words) => {
    if (id !== current) return;
    setText(text, words);
    open.setAttribute("aria-label", `${label}: ${words}`);
  };
  return {
    keys: ["person"],
    element: h("div", { class: "filter" }, h("label", { for: open.id }, label), open),
    show: (filters) => {
      current = filters.get("person") ?? "";
      say(current, current ? (names.get(current) ?? "…") : "Anyone");
      if (current && !names.has(current)) fetchName(current).then((name) => say(current, name));
    },
    listen: (changed) => {
      open.addEventListener("click", () =>
        pickPerson({
          title: "Whose events?",
          pick: ({ id, name }) => {
            names.set(id, name);
            changed({ person: id });
          },
        }),
      );
    },
  };
}

async function fetchName(id) {
  try {
    const { name } = await getPerson(id);
    names.set(id, name);
    return name;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return "Somebody who was erased";
  }
}
