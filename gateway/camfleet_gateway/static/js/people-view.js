/** Everybody who is enrolled. */

import { ApiError } from "./api.js";
import { embedAnew, listPeople } from "./api-records.js";
import { button, h, icon, toast } from "./dom.js";
import { emptyState } from "./filters.js";
import { Paged } from "./paged.js";
import { showAddPerson, showImport, startExport } from "./people-dialogs.js";
import { pictures, sortedGroups, validity } from "./people-words.js";
import { keptNote } from "./privacy.js";
import { address, personAddress } from "./routes.js";
import { Thumbs } from "./thumbs.js";

const PART = 100;
const TYPING_MS = 200;

export class PeopleView {
  title = "People";
  #store;
  #filters;
  #thumbs = new Thumbs();
  #paged;
  #list = h("ul", { class: "cards people", role: "list" });
  #groups = h("div", { class: "segmented groups", role: "group", "aria-label": "Group" });
  #none = h("div", { class: "empty", hidden: true });
  #outdated = h("div", { class: "notice outdated", hidden: true });
  #actions = h("div", { class: "records-actions" });
  #listening = new AbortController();
  #timer = 0;

  /** @param {import("./store.js").Store} store @param {{filters: URLSearchParams}} route */
  constructor(store, route) {
    this.#store = store;
    this.#filters = route.filters;
    this.searchField = h("input", {
      type: "search",
      class: "field search",
      placeholder: "Search by name",
      "aria-label": "Search people by name",
      autocomplete: "off",
      spellcheck: "false",
      value: route.filters.get("query") ?? "",
      oninput: () => {
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#choose({ query: this.searchField.value.trim() }), TYPING_MS);
      },
    });
    this.#paged = new Paged({
      load: async (cursor, options) => {
        const { query, group } = this.#chosen;
        const found = await listPeople({ query, group, limit: PART, cursor }, options);
        this.#showGroups(found);
        return { items: found.people, next: found.next_cursor ?? null };
      },
      take: (people, first) => this.#take(people, first),
    });
    this.element = h(
      "section",
      { class: "records people-view", "aria-label": "People" },
      h("div", { class: "records-head" }, h("h1", {}, "People"), keptNote(store, this.#listening.signal), h("span", { class: "spacer" }), this.#actions),
      h("div", { class: "toolbar people-toolbar" }, this.#groups, h("label", { class: "search-box" }, icon("search"), this.searchField)),
      this.#outdated,
      this.#list,
      this.#none,
      this.#paged.element,
    );
    store.addEventListener("session", () => this.#showActions(), { signal: this.#listening.signal });
    this.#showActions();
    this.#paged.reset();
  }

  entered() {
    document.getElementById("main").focus({ preventScroll: true });
  }

  follow(route) {
    this.#filters = route.filters;
    this.searchField.value = route.filters.get("query") ?? "";
    this.#paged.reset();
  }

  onFrame() {}

  dispose() {
    clearTimeout(this.#timer);
    this.#listening.abort();
    this.#paged.dispose();
    this.#thumbs.dispose();
    this.element.remove();
  }

  get #chosen() {
    return { query: this.#filters.get("query") ?? "", group: this.#filters.get("group") ?? "" };
  }

  #choose(change) {
    const filters = { ...this.#chosen, ...change };
    const to = address("people", filters);
    this.#filters = new URLSearchParams(to.split("?")[1] ?? "");
    history.replaceState(null, "", to);
    this.#paged.reset();
  }

  #showActions() {
    const added = (person) => {
      location.hash = personAddress(person.id);
    };
    const actions = [];
    if (this.#store.may("admin")) {
      actions.push(button("download", "Export", { text: true, class: "button", onclick: (event) => startExport(event.currentTarget) }));
    }
    if (this.#store.may("operator")) {
      actions.push(
        button("upload", "Import", { text: true, class: "button", onclick: () => showImport(() => this.#paged.reset()) }),
        button("plus", "Add person", { text: true, class: "button primary", onclick: () => showAddPerson(added) }),
      );
    }
    this.#actions.replaceChildren(...actions);
  }

  #showGroups({ groups = {} }) {
    const { group } = this.#chosen;
    const names = sortedGroups(new Set([...Object.keys(groups), ...(group ? [group] : [])]));
    const all = Object.values(groups).reduce((sum, count) => sum + count, 0);
    const focused = this.#groups.contains(document.activeElement) ? document.activeElement.dataset.group : null;
    const item = (name, label, count) =>
      h(
        "button",
        {
          type: "button",
          data: { group: name },
          "aria-pressed": String(name === group),
          onclick: () => this.#choose({ group: name }),
        },
        `${label} `,
        h("span", { class: "count" }, String(count)),
      );
    this.#groups.replaceChildren(item("", "All", all), ...names.map((name) => item(name, name, groups[name] ?? 0)));
    this.#groups.hidden = all === 0 && !group;
    if (focused !== null) this.#groups.querySelector(`[data-group="${CSS.escape(focused)}"]`)?.focus();
  }

  #take(people, first) {
    if (first) {
      this.#thumbs.forget(this.#list);
      this.#list.replaceChildren();
      this.#outdated.hidden = true;
    }
    if (people.some((person) => person.needs_reembedding)) this.#showOutdated();
    this.#list.append(...people.map((person) => this.#card(person)));
    this.#showNone();
  }

  /** Pictures of a model that is no longer used recognise nobody. */
  #showOutdated() {
    const text = "The face model was changed. Some pictures were embedded by another one, and nobody is recognised by them.";
    const anew = h("button", { type: "button", class: "button small", onclick: () => this.#embedAnew(anew) }, "Embed them anew");
    this.#outdated.replaceChildren(h("span", {}, text), this.#store.may("admin") ? anew : " An admin can embed them anew.");
    this.#outdated.hidden = false;
  }

  async #embedAnew(asker) {
    asker.disabled = true;
    try {
      const { total } = await embedAnew();
      toast(`${pictures(total)} are being embedded anew; this goes on in the background`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, "error");
      asker.disabled = false;
    }
  }

  #card(person) {
    const state = validity(person);
    const problem = person.needs_reembedding
      ? `${pictures(person.needs_reembedding)} of another model`
      : person.faces === 0
        ? "no picture yet"
        : "";
    return h(
      "li",
      { class: "card-item" },
      h(
        "a",
        { class: "card person-card", href: personAddress(person.id), data: { id: person.id } },
        this.#thumbs.make(person.thumbnail_url, { symbol: "person", class: "round" }),
        h(
          "span",
          { class: "card-body" },
          h("span", { class: "card-title" }, person.name),
          h("span", { class: "card-text" }, [person.faces ? pictures(person.faces) : "", state].filter(Boolean).join(" · ")),
          h(
            "span",
            { class: "tags" },
            h("span", { class: "tag", data: { group: person.group } }, person.group),
            problem ? h("span", { class: "tag", data: { severity: "warning" } }, problem) : null,
          ),
        ),
      ),
    );
  }

  #showNone() {
    const none = this.#list.childElementCount === 0;
    this.#none.hidden = !none;
    if (!none) return;
    const { query, group } = this.#chosen;
    if (query || group) {
      this.#none.replaceChildren(
        ...emptyState(
          "people",
          "Nobody fits",
          query ? `Nobody is called “${query}”${group ? ` in ${group}` : ""}.` : `Nobody is in ${group}.`,
          h(
            "button",
            {
              type: "button",
              class: "button",
              onclick: () => {
                this.searchField.value = "";
                this.#choose({ query: "", group: "" });
              },
            },
            "Show everybody",
          ),
        ),
      );
      return;
    }
    this.#none.replaceChildren(
      ...emptyState(
        "people",
        "Nobody is enrolled yet",
        this.#store.may("operator")
          ? "Add somebody and give a few pictures of their face, or import a folder of pictures for each person as a ZIP file."
          : "An operator can add people here.",
        "Cameras recognise them once face recognition and a retention time are set for the camera.",
      ),
    );
  }
}
