/** The page of one person: pictures, what is known, where they were seen last. */

import { ApiError } from "./api.js";
import { changePerson, deleteFace, getPerson, listEvents, listFaces } from "./api-records.js";
import { confirmThen } from "./dialog.js";
import { button, h, setText, toast } from "./dom.js";
import { Enrol } from "./enrol.js";
import { EventCard } from "./event-card.js";
import { percent } from "./event-words.js";
import { confirmErase } from "./people-dialogs.js";
import { pictures, validity } from "./people-words.js";
import { PersonForm } from "./person-form.js";
import { address, personAddress } from "./routes.js";
import { Thumbs } from "./thumbs.js";
import { when } from "./words.js";

const LAST_EVENTS = 6;
const SOURCES = { upload: "given", event: "from an event", import: "imported" };

export class PersonView {
  title = "Person";
  #id;
  #store;
  #person = null;
  #thumbs = new Thumbs();
  #listening = new AbortController();
  #enrol = null;
  #name = h("h1", {}, "…");
  #tags = h("span", { class: "tags" });
  #actions = h("div", { class: "records-actions" });
  #faces = h("ul", { class: "faces", role: "list" });
  #facesHead = h("h2", {}, "Pictures");
  #noFaces = h("p", { class: "events-none", hidden: true }, "No pictures yet: nobody is recognised without one.");
  #seen = h("ul", { class: "cards", role: "list" });
  #noEvents = h("p", { class: "events-none" });
  #side = h("div", { class: "view-side" });
  #body;
  #missing = h("div", { class: "empty", hidden: true });

  /** @param {import("./store.js").Store} store @param {{id: string}} route */
  constructor(store, route) {
    this.#id = route.id;
    this.#store = store;
    const back = h("a", { class: "icon-button back", href: "#/people", "aria-label": "Back to all people", title: "All people" });
    back.append(button("back", "").firstChild);
    const enrolling = h("div", {});
    if (store.may("operator")) {
      this.#enrol = new Enrol(this.#id, () => this.#loadFaces());
      enrolling.append(this.#enrol.element);
    }
    const all = h("a", { class: "more", href: address("events", { person: this.#id }) }, "All events");
    this.#body = h(
      "div",
      { class: "view-body" },
      h(
        "div",
        { class: "person-main" },
        h("section", { class: "panel", "aria-label": "Pictures" }, h("div", { class: "panel-head" }, this.#facesHead), enrolling, this.#faces, this.#noFaces),
        h("section", { class: "panel", "aria-label": "Seen last" }, h("div", { class: "panel-head" }, h("h2", {}, "Seen last"), all), this.#seen, this.#noEvents),
      ),
      this.#side,
    );
    this.element = h(
      "section",
      { class: "view person-view", "aria-label": "Person" },
      h("div", { class: "view-head" }, back, this.#name, this.#tags, h("span", { class: "spacer" }), this.#actions),
      this.#body,
      this.#missing,
    );
    this.#load();
    this.#loadFaces();
    this.#loadEvents();
  }

  entered() {
    document.getElementById("main").focus({ preventScroll: true });
  }

  onFrame() {}

  dispose() {
    this.#listening.abort();
    this.#enrol?.dispose();
    this.#thumbs.dispose();
    this.element.remove();
  }

  // ── Fetching ────────────────────────────────────────────────────────────────────────────────────

  async #fetch(get, use, failed = () => {}) {
    const { signal } = this.#listening;
    try {
      const found = await get({ signal });
      if (!signal.aborted) use(found);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (!signal.aborted) failed(error);
    }
  }

  #load() {
    return this.#fetch(
      (options) => getPerson(this.#id, options),
      (person) => this.#show(person),
      (error) => this.#showMissing(error),
    );
  }

  #loadFaces() {
    return this.#fetch(
      (options) => listFaces(this.#id, options),
      ({ faces }) => this.#showFaces(faces),
    );
  }

  #loadEvents() {
    return this.#fetch(
      (options) => listEvents({ person: this.#id, limit: LAST_EVENTS }, options),
      ({ events }) => {
        const to = (event) => address("events", { person: this.#id, event: event.id });
        this.#seen.replaceChildren(...events.map((event) => new EventCard(event, this.#thumbs, { address: to, day: true }).element));
        setText(this.#noEvents, events.length ? "" : "Not seen yet, or no longer kept.");
      },
      (error) => setText(this.#noEvents, error.message),
    );
  }

  // ── Showing ─────────────────────────────────────────────────────────────────────────────────────

  #showMissing(error) {
    this.#body.hidden = true;
    this.#missing.hidden = false;
    setText(this.#name, "");
    this.#missing.replaceChildren(
      h("h2", {}, error.status === 404 ? "There is no such person" : "This cannot be shown now"),
      h("p", { class: "empty-text" }, error.status === 404 ? "They may have been erased." : error.message),
      h("a", { class: "button", href: "#/people" }, "All people"),
    );
  }

  #show(person) {
    this.#person = person;
    this.title = person.name;
    document.title = `${person.name} · Camfleet`;
    setText(this.#name, person.name);
    const state = validity(person);
    this.#tags.replaceChildren(
      h("span", { class: "tag", data: { group: person.group } }, person.group),
      ...(state ? [h("span", { class: "tag", data: person.valid === false ? { severity: "warning" } : {} }, state)] : []),
    );
    const actions = [];
    if (this.#store.may("operator")) {
      actions.push(h("a", { class: "button", href: address("search", { person: this.#id }) }, "Where else seen"));
    }
    if (this.#store.may("admin")) {
      actions.push(
        button("trash", "Erase", {
          text: true,
          class: "button danger",
          onclick: () =>
            confirmErase(this.#person, () => {
              location.hash = "#/people";
            }),
        }),
      );
    }
    this.#actions.replaceChildren(...actions);
    this.#side.replaceChildren(this.#store.may("operator") ? this.#form(person) : this.#facts(person), privacyPanel());
  }

  #form(person) {
    const fields = new PersonForm("person", person);
    const save = h("button", { type: "submit", class: "button primary" }, "Save");
    return h(
      "section",
      { class: "panel", "aria-label": "Details" },
      h("div", { class: "panel-head" }, h("h2", {}, "Details")),
      h(
        "form",
        {
          class: "form",
          novalidate: true,
          onsubmit: async (event) => {
            event.preventDefault();
            fields.clear();
            save.disabled = true;
            try {
              this.#show(await changePerson(this.#id, fields.values()));
              toast("Saved");
            } catch (error) {
              if (!(error instanceof ApiError)) throw error;
              fields.complain(error);
            } finally {
              save.disabled = false;
            }
          },
        },
        ...fields.parts,
        h("div", { class: "dialog-actions" }, save),
      ),
    );
  }

  #facts(person) {
    const rows = { Group: person.group, Valid: validity(person) || "always", Pictures: String(person.faces) };
    return h(
      "section",
      { class: "panel", "aria-label": "Details" },
      h("div", { class: "panel-head" }, h("h2", {}, "Details")),
      h("dl", { class: "details" }, ...Object.entries(rows).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    );
  }

  #showFaces(faces) {
    const known = new Map([...this.#faces.children].map((element) => [element.dataset.id, element]));
    const own = faces.filter((face) => !face.negative).length;
    setText(this.#facesHead, own ? pictures(own) : "Pictures");
    this.#noFaces.hidden = faces.length > 0;
    for (const [id, element] of known) {
      if (faces.some((face) => face.id === id)) continue;
      this.#thumbs.forget(element);
      element.remove();
    }
    for (const face of faces) if (!known.has(face.id)) this.#faces.append(this.#face(face));
  }

  #face(face) {
    const words = [SOURCES[face.source] ?? face.source, `quality ${percent(face.quality?.score ?? 0)}`].join(", ");
    const label = `${face.negative ? "Not this person" : "Picture"}, ${words}`;
    return h(
      "li",
      { class: "face", data: { id: face.id, negative: face.negative ? "yes" : "no" } },
      this.#thumbs.make(face.url, { symbol: "person", alt: label }),
      h(
        "div",
        { class: "face-words" },
        h("span", { class: "hint" }, face.negative ? "not this person" : words),
        face.needs_reembedding ? h("span", { class: "tag", data: { severity: "warning" } }, "other model") : null,
        h("span", { class: "hint" }, when(face.created)),
      ),
      this.#store.may("operator")
        ? button("trash", "Remove picture", { class: "icon-button face-remove", onclick: () => this.#remove(face) })
        : null,
    );
  }

  #remove(face) {
    confirmThen({
      title: "Remove this picture?",
      name: "remove-face",
      text: [face.negative ? "It will no longer say who this is not." : "This person is no longer recognised by it. The others stay."],
      verb: "Remove",
      act: async () => {
        await deleteFace(this.#id, face.id);
        await this.#loadFaces();
      },
    });
  }
}

function privacyPanel() {
  return h(
    "section",
    { class: "panel", "aria-label": "Privacy" },
    h("div", { class: "panel-head" }, h("h2", {}, "Privacy")),
    h(
      "p",
      { class: "hint" },
      "Of each picture only the face is kept, and what is computed from it, which is encrypted in the database. Both stay until the picture is removed or the person is erased. Events go after the camera’s retention time.",
    ),
  );
}
