/** Where was this face seen? By a picture, by the face of an event, or by a person. */

import { ApiError } from "./api.js";
import { getPerson, searchAlike, searchByPicture } from "./api-records.js";
import { h, setText } from "./dom.js";
import { DropZone } from "./drop-zone.js";
import { EventCard } from "./event-card.js";
import { apiFilters, cameraFilter, emptyState, FilterBar, timeFilter } from "./filters.js";
import { refusal } from "./people-words.js";
import { address, personAddress } from "./routes.js";
import { showBlob, Thumbs } from "./thumbs.js";

const LIMIT = 60;
const PEOPLE_SHOWN = 5;
const MAX_BYTES = 20 * 1024 * 1024;
const SOURCES = ["event", "person"];

export class SearchView {
  title = "Search";
  #filters;
  #store;
  #picture = null; // File
  #thumbs = new Thumbs();
  #run = new AbortController();
  #bar;
  #zone;
  #source = h("div", { class: "search-source" });
  #status = h("p", { class: "hint search-status", role: "status" });
  #problem = h("p", { class: "form-error", role: "alert", hidden: true });
  #people = h("ul", { class: "cards people", role: "list" });
  #peopleHead = h("h2", { class: "day", hidden: true }, "People it may be");
  #faces = h("ul", { class: "cards", role: "list" });
  #facesHead = h("h2", { class: "day", hidden: true }, "Seen here");
  #none = h("div", { class: "empty", hidden: true });

  /** @param {import("./store.js").Store} store @param {{filters: URLSearchParams}} route */
  constructor(store, route) {
    this.#store = store;
    this.#filters = route.filters;
    this.#zone = new DropZone({
      id: "search-picture",
      label: "Choose a picture",
      hint: "or drop it here: a face, seen from the front. It is not kept.",
      accept: "image/jpeg,image/png,image/webp,.jpg,.jpeg,.png,.webp",
      take: ([file]) => file && this.#byPicture(file),
    });
    this.#bar = new FilterBar([cameraFilter(store), timeFilter(), likenessFilter()], route.filters, (filters) => this.#choose(filters));
    this.element = h(
      "section",
      { class: "records search-view", "aria-label": "Search by picture" },
      h("div", { class: "records-head" }, h("h1", {}, "Search by picture")),
      ...(store.may("operator")
        ? [
            h("div", { class: "search-ask" }, this.#source, this.#zone.element),
            this.#bar.element,
            this.#problem,
            this.#status,
            this.#peopleHead,
            this.#people,
            this.#facesHead,
            this.#faces,
            this.#none,
          ]
        : [h("div", { class: "empty" }, ...emptyState("search", "Not for viewers", "Searching for a face needs the role operator."))]),
    );
    if (store.may("operator")) this.#start();
  }

  entered() {
    document.getElementById("main").focus({ preventScroll: true });
  }

  follow(route) {
    const asked = SOURCES.some((key) => route.filters.get(key) !== this.#filters.get(key));
    if (asked) this.#picture = null;
    this.#filters = route.filters;
    this.#bar.show(route.filters);
    this.#start();
  }

  onFrame() {}

  dispose() {
    this.#run.abort();
    this.#bar.dispose();
    this.#thumbs.dispose();
    this.element.remove();
  }

  #choose(filters) {
    this.#filters = filters;
    this.#bar.show(filters);
    history.replaceState(null, "", address("search", filters));
    this.#start();
  }

  #byPicture(file) {
    this.#problem.hidden = true;
    if (file.size > MAX_BYTES) {
      this.#complain({ code: "TooLarge", message: "" });
      return;
    }
    this.#picture = file;
    for (const key of SOURCES) this.#filters.delete(key);
    this.#choose(this.#filters);
  }

  async #start() {
    this.#run.abort();
    this.#run = new AbortController();
    const { signal } = this.#run;
    this.#problem.hidden = true;
    this.#showSource();
    const filters = { ...apiFilters(this.#filters), limit: LIMIT };
    const event = this.#filters.get("event");
    if (event) filters.event = event;
    if (!this.#picture && !event && !filters.person) {
      this.#show(null);
      return;
    }
    setText(this.#status, "Searching…");
    try {
      const found = this.#picture ? await searchByPicture(this.#picture, filters, signal) : await searchAlike(filters, signal);
      if (!signal.aborted) this.#show(found);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (signal.aborted) return;
      this.#show(null);
      this.#complain(error);
    }
  }

  #complain(error) {
    const { title, text } = refusal(error);
    setText(this.#problem, title === "Not added" ? text : `${title}. ${text}`);
    this.#problem.hidden = false;
    this.#none.hidden = true;
    setText(this.#status, "");
  }

  /** What is searched for. */
  #showSource() {
    this.#thumbs.forget(this.#source);
    const [event, person] = SOURCES.map((key) => this.#filters.get(key));
    const parts = [];
    if (this.#picture) {
      const image = h("img", { alt: "The picture that is searched for", hidden: true });
      const holder = h("span", { class: "thumb" }, image);
      showBlob(image, this.#picture, holder);
      parts.push(holder, h("span", { class: "hint" }, this.#picture.name));
    } else if (event) {
      const crop = `/api/events/${encodeURIComponent(event)}/crop.jpg`;
      parts.push(
        this.#thumbs.make(crop, { symbol: "person", alt: "The face that is searched for" }),
        h("a", { href: address("events", { event }) }, "The face of this event"),
      );
    } else if (person) {
      parts.push(h("a", { href: personAddress(person) }, "The faces of this person"));
    }
    this.#source.replaceChildren(...parts);
    this.#source.hidden = parts.length === 0;
  }

  #show(found) {
    this.#thumbs.forget(this.#faces);
    this.#thumbs.forget(this.#people);
    const { people = [], faces = [] } = found ?? {};
    this.#people.replaceChildren(...people.slice(0, PEOPLE_SHOWN).map((person) => this.#person(person)));
    this.#peopleHead.hidden = people.length === 0;
    this.#showFacesOf(people);
    this.#faces.replaceChildren(...faces.map((face) => this.#face(face)));
    this.#facesHead.hidden = faces.length === 0;
    setText(this.#status, found ? `Searched in ${Math.round(found.took_ms)} ms · ${found.index}` : "");
    this.#none.hidden = faces.length > 0 || people.length > 0;
    if (found) {
      this.#none.replaceChildren(
        ...emptyState("search", "Not seen", "No face that is kept is alike enough. Choose a longer time, another camera, or a lower likeness."),
      );
    } else {
      this.#none.replaceChildren(
        ...emptyState(
          "search",
          "Where was this face seen?",
          "Give a picture of a face, or open an event and choose “Search this face”. Faces are kept only of cameras whose face recognition is on, and only as long as their events.",
        ),
      );
    }
  }

  #face({ event, similarity }) {
    const card = new EventCard(event, this.#thumbs, { address: (one) => address("events", { event: one.id }), day: true });
    card.link.querySelector(".tags").prepend(likeness(similarity));
    return card.element;
  }

  /** Results name people only; their pictures come afterwards. */
  async #showFacesOf(people) {
    const { signal } = this.#run;
    for (const { id } of people.slice(0, PEOPLE_SHOWN)) {
      try {
        const { thumbnail_url: url } = await getPerson(id, { signal });
        const place = this.#people.querySelector(`[data-id="${CSS.escape(id)}"] .thumb`);
        if (signal.aborted) return;
        if (place && url) this.#thumbs.change(place, url);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error; // the name says enough
      }
    }
  }

  #person(person) {
    return h(
      "li",
      { class: "card-item" },
      h(
        "a",
        { class: "card person-card", href: personAddress(person.id), data: { id: person.id } },
        this.#thumbs.make(null, { symbol: "person", class: "round" }),
        h("span", { class: "card-body" }, h("span", { class: "card-title" }, person.name), h("span", { class: "tags" }, likeness(person.similarity))),
      ),
    );
  }
}

/** How alike, as the cosine that thresholds are about, with a bar. */
function likeness(similarity) {
  const bar = h("meter", { min: 0, max: 1, value: Math.max(0, similarity), "aria-hidden": "true" });
  return h("span", { class: "likeness" }, bar, h("span", {}, `${similarity.toFixed(2)} alike`));
}

/** The least likeness of a result. */
function likenessFilter() {
  const select = h("select", { class: "field", id: "filter-minimum" });
  const options = [["0.2", "0.2: more, less sure"], ["", "0.3"], ["0.5", "0.5"], ["0.7", "0.7: fewer, surer"]];
  select.append(...options.map(([value, text]) => h("option", { value }, text)));
  return {
    keys: ["minimum"],
    element: h("div", { class: "filter" }, h("label", { for: select.id }, "Least likeness"), select),
    show: (filters) => {
      select.value = filters.get("minimum") ?? "";
    },
    listen: (changed) => select.addEventListener("change", () => changed({ minimum: select.value || null })),
  };
}
