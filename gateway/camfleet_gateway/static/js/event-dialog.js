/** One event in full: the scene and the crop, who it is, how it went, which models said so; and what to do about it. */

import { ApiError } from "./api.js";
import { deleteEvent, getEvent, tellPerson } from "./api-records.js";
import { confirmThen, showDialog } from "./dialog.js";
import { button, h, setText, toast } from "./dom.js";
import { tagsOf } from "./event-card.js";
import { eventSymbol, eventText, eventTitle, isAppearance, isFace, percent, personOf, ruleWords, stay, zonesOf } from "./event-words.js";
import { MAY_FORCE, refusal } from "./people-words.js";
import { pickPerson } from "./person-picker.js";
import { address, cameraAddress, personAddress } from "./routes.js";
import { Thumbs } from "./thumbs.js";
import { duration, shortName, when } from "./words.js";

export class EventDialog {
  #id;
  #store;
  #actions;
  #heading;
  #thumbs = new Thumbs();
  #event = null;
  #scene = null;
  #crop = null;
  #body = h("div", { class: "detail" }, h("p", { class: "events-none" }, "Loading…"));
  #loading = new AbortController();

  /**
   * @param {string} id @param {object | undefined} known the event, as far as it is at hand
   * @param {import("./store.js").Store} store
   * @param {{closed: () => void, changed: (event: object) => void, deleted: (id: string) => void,
   *   step: (by: number) => void}} actions `step` goes to the newer (-1) or older (1) event
   */
  constructor(id, known, store, actions) {
    this.#id = id;
    this.#store = store;
    this.#actions = actions;
    this.dialog = showDialog(known ? eventTitle(known) : "Event", "event-detail", this.#body);
    this.#heading = this.dialog.querySelector("h2");
    this.dialog.querySelector(".dialog-head").lastChild.before(
      h("span", { class: "spacer" }),
      button("back", "Newer event", { class: "icon-button", title: "Newer (←)", onclick: () => actions.step(-1) }),
      button("next", "Older event", { class: "icon-button", title: "Older (→)", onclick: () => actions.step(1) }),
    );
    this.dialog.addEventListener("close", () => {
      this.#loading.abort();
      this.#thumbs.dispose();
      actions.closed();
    });
    this.dialog.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by && !event.target.closest("input, select")) actions.step(by);
    });
    if (known) this.show(known);
    this.#load();
  }

  get id() {
    return this.#id;
  }

  close() {
    this.dialog.close();
  }

  async #load() {
    try {
      this.show(await getEvent(this.#id, { signal: this.#loading.signal }));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.code === "aborted" || this.#event) return;
      const gone = error.status === 404 ? "This event is no longer kept, or never was." : error.message;
      this.#body.replaceChildren(h("p", { class: "events-none" }, gone));
    }
  }

  /** Show the event, or a later revision of it. */
  show(event) {
    if (this.#event && (event.revision ?? 0) < (this.#event.revision ?? 0)) return;
    const focused = document.activeElement?.dataset.action;
    this.#event = event;
    setText(this.#heading, eventTitle(event));
    this.#body.replaceChildren(...[this.#pictures(), this.#facts()].filter(Boolean));
    if (focused) this.#body.querySelector(`[data-action="${focused}"]`)?.focus();
  }

  // ── Parts ───────────────────────────────────────────────────────────────────────────────────────

  #pictures() {
    const event = this.#event;
    const version = event.revision ?? 0;
    const place = (element, path, options) => {
      if (element) this.#thumbs.change(element, path, version);
      return element ?? this.#thumbs.make(path, { version, ...options });
    };
    if (!event.scene_url && !event.crop_url) return null;
    const parts = [];
    if (event.scene_url) {
      this.#scene = place(this.#scene, event.scene_url, { symbol: "image", alt: "The whole picture", class: "scene" });
      parts.push(h("div", { class: "detail-scene" }, this.#scene, outline(event.data?.box)));
    }
    if (event.crop_url) {
      this.#crop = place(this.#crop, event.crop_url, {
        symbol: eventSymbol(event),
        alt: `Best picture of: ${eventTitle(event)}`,
        class: "crop",
      });
      parts.push(h("div", { class: "detail-crop" }, this.#crop));
    }
    return h("div", { class: `detail-pictures${event.scene_url ? "" : " only-crop"}` }, ...parts);
  }

  #facts() {
    const event = this.#event;
    const person = personOf(event);
    return h(
      "div",
      { class: "detail-facts" },
      h(
        "p",
        { class: "detail-summary" },
        person ? h("a", { href: personAddress(person.id) }, person.name || "This person") : eventTitle(event),
        " on ",
        h("a", { href: cameraAddress(event.camera) }, shortName(event.camera)),
        `, ${when(event.time)}`,
        h("span", { class: "tags" }, ...tagsOf(event)),
      ),
      eventText(event) && !isAppearance(event) ? h("p", {}, eventText(event)) : null,
      this.#buttons(),
      h("dl", { class: "details" }, ...rows(event).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    );
  }

  #buttons() {
    const event = this.#event;
    const operator = this.#store.may("operator");
    const person = personOf(event);
    const buttons = [h("a", { class: "button small", href: cameraAddress(event.camera), data: { action: "live" } }, "Jump to live")];
    if (event.data?.event_id) {
      buttons.push(h("a", { class: "button small", href: address("events", { event: event.data.event_id }) }, "What raised it"));
    }
    if (operator && isFace(event)) {
      buttons.push(h("a", { class: "button small", href: address("search", { event: event.id }) }, "Search this face"));
      const say = (label, action, act) =>
        h("button", { type: "button", class: "button small", data: { action }, onclick: act }, label);
      buttons.push(say(person ? "Somebody else…" : "This is…", "this-is", () => this.#thisIs()));
      if (person) buttons.push(say(`Not ${person.name || "this person"}`, "not", () => this.#notThis(person)));
    }
    if (this.#store.may("admin")) {
      buttons.push(
        button("trash", "Delete event", { class: "icon-button", data: { action: "delete" }, onclick: () => this.#delete() }),
      );
    }
    return h("div", { class: "detail-actions" }, ...buttons);
  }

  // ── Actions ─────────────────────────────────────────────────────────────────────────────────────

  #thisIs() {
    pickPerson({
      title: "Who is this?",
      hint: "The face of this event is added to the person’s pictures.",
      allowNew: true,
      pick: (chosen) => this.#tell(chosen.id ? { person_id: chosen.id } : chosen, `This is ${chosen.name}`),
    });
  }

  #notThis(person) {
    return this.#tell({ not_person_id: person.id }, `Noted: this is not ${person.name || "that person"}`);
  }

  async #tell(said, done, force = false) {
    try {
      this.#told(await tellPerson(this.#id, said, { force }), done);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (force || !MAY_FORCE.has(error.code)) {
        toast(refusal(error).text, "error");
        return;
      }
      confirmThen({
        title: refusal(error).title,
        name: "all-the-same",
        text: [refusal(error).text],
        verb: "It is all the same",
        act: async () => this.#told(await tellPerson(this.#id, said, { force: true }), done),
      });
    }
  }

  #told({ event, not_enrolled: reason }, done) {
    toast(reason === "TooManyFaces" ? `${done}. The face was not added: this person has as many as are kept.` : done);
    this.#event = null; // the answer stands, whatever its revision
    if (this.dialog.open) this.show(event);
    this.#actions.changed(event);
  }

  #delete() {
    confirmThen({
      title: "Delete this event?",
      name: "delete-event",
      text: ["The event, its pictures and its place in searches are removed. This cannot be undone."],
      verb: "Delete",
      act: async () => {
        await deleteEvent(this.#id);
        toast("The event was deleted");
        this.#actions.deleted(this.#id);
      },
    });
  }
}

const SVG = "http://www.w3.org/2000/svg";

/** Where it was in the scene. */
function outline(box) {
  if (!Array.isArray(box) || box.length !== 4) return null;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "outline");
  svg.setAttribute("viewBox", "0 0 1 1");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const name of ["under", "over"]) {
    const rectangle = document.createElementNS(SVG, "rect");
    rectangle.setAttribute("class", name);
    ["x", "y", "width", "height"].forEach((key, index) => rectangle.setAttribute(key, box[index]));
    svg.append(rectangle);
  }
  return svg;
}

/** What there is to know, as pairs. */
function rows(event) {
  const data = event.data ?? {};
  const person = personOf(event);
  const found = [];
  const add = (name, value) => value !== "" && value !== null && value !== undefined && found.push([name, String(value)]);
  if (isAppearance(event)) {
    add("From", when(data.started ?? event.time));
    add(data.ended || event.ended ? "Until" : "Last seen", when(event.ended ?? data.ended ?? data.seen ?? event.time));
    add("In view", stay(event));
    add("Came back", data.returns ? (data.returns === 1 ? "once" : `${data.returns} times`) : "");
    add("Zones", zonesOf(event).map(({ name, seconds }) => `${name}, ${duration(seconds)}`).join("; "));
    add("Found as", `${event.label ?? data.label ?? ""}${data.score > 0 ? `, ${percent(data.score)} sure` : ""}`);
    add("Pictures", data.pictures ? String(data.pictures) : "");
    add("Face", data.quality ? `quality ${percent(data.quality)}` : "");
    if (person && Number.isFinite(person.similarity)) {
      const byHand = person.similarity >= 0.9999; // as the gateway has it where people said who it is
      const next = person.runner_up > -1 ? `; next person ${person.runner_up.toFixed(2)}` : "";
      add("Alike", byHand ? "as people said" : `${person.similarity.toFixed(2)}${next}`);
    }
    add("Detector", data.detector ?? "");
    add("Face model", data.embedder ?? "");
    add("Gallery", data.gallery_version ? `version ${data.gallery_version}` : "");
  } else {
    add("Rule", data.rule ? `${data.rule}: ${ruleWords(data.when)}` : "");
    add("Zone", data.zone ?? "");
    add("Reason", typeof data.reason === "string" ? data.reason : "");
  }
  add("Site", event.site ?? "");
  add("Event", event.id);
  return found;
}
