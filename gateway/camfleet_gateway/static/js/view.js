/** The page of one camera: a large picture, controls, details and its events. */

import { ApiError, getCamera, setStreaming, snapshotUrl } from "./api.js";
import { Controls } from "./controls.js";
import { button, h, setText, toast } from "./dom.js";
import { EventList } from "./events.js";
import { Picture } from "./picture.js";
import { recognitionWords, retentionWords } from "./privacy.js";
import { address } from "./routes.js";
import { pictureAge } from "./tile.js";
import { Veil } from "./veil.js";
import { age, duration, isFrozen, isTroubled, rate, reasonText, shortName, sourceWords, stateWord } from "./words.js";

const DETAILS_EVERY_MS = 5000;

export class CameraView {
  #id;
  #store;
  #socket;
  #actions;
  #picture;
  #veil = new Veil();
  #badge = h("span", { class: "badge" });
  #notice = h("p", { class: "notice", hidden: true });
  #site = h("span", { class: "view-site" });
  #details = h("dl", { class: "details" });
  #controls = null;
  #events;
  #side = h("div", { class: "view-side" });
  #missing = h("div", { class: "empty", hidden: true });
  #content;
  #rest = null; // what only the REST interface tells: source, uptime, drops
  #restAt = 0;
  #listening = new AbortController();
  #timers = [];
  #operate = h("div", { class: "view-operate" });
  #snapshotButton = button("camera", "Save a snapshot", { class: "icon-button", onclick: () => this.#snapshot() });
  #pauseButton = null;
  #asked = false;

  constructor(id, store, socket, actions) {
    this.#id = id;
    this.#store = store;
    this.#socket = socket;
    this.#actions = actions;
    this.title = shortName(id);
    this.#events = new EventList(store, id);
    this.#picture = new Picture(id);
    this.#picture.showBoxes(store.boxes);
    const back = h("a", { class: "icon-button back", href: "#/", "aria-label": "Back to all cameras", title: "Back (Esc)" });
    back.append(button("back", "").firstChild);
    this.stageBox = h("div", { class: "view-picture", data: { camera: id } }, this.#picture.element, this.#veil.element);
    this.#content = h(
      "div",
      { class: "view-body" },
      h(
        "div",
        { class: "view-main" },
        this.stageBox,
        h(
          "div",
          { class: "view-tools" },
          this.#operate,
          this.#notice,
          h("span", { class: "spacer" }),
          this.#snapshotButton,
          button("expand", "Full screen", {
            class: "icon-button",
            title: "Full screen (f)",
            onclick: () => this.toggleFullscreen(),
          }),
        ),
        h(
          "section",
          { class: "panel", "aria-label": "Events of this camera" },
          h(
            "div",
            { class: "panel-head" },
            h("h2", {}, "Events"),
            h("a", { class: "more", href: address("events", { camera: id }) }, "All of this camera"),
          ),
          this.#events.element,
        ),
      ),
      this.#side,
    );
    this.element = h(
      "section",
      { class: "view", "aria-label": `Camera ${this.title}` },
      h("div", { class: "view-head" }, back, h("h1", {}, this.title), this.#badge, this.#site),
      this.#content,
      this.#missing,
    );
    const options = { signal: this.#listening.signal };
    store.addEventListener("cameras", ({ detail }) => detail.ids.includes(id) && this.#update(), options);
    store.addEventListener("list", () => this.#update(), options);
    store.addEventListener("session", () => this.#fillSide(), options);
    store.addEventListener("boxes", () => this.#picture.showBoxes(store.boxes), options);
    this.#timers.push(setInterval(() => this.#update(), 1000));
    this.#timers.push(setInterval(() => this.#fetchDetails(), DETAILS_EVERY_MS));
    this.#fillSide();
    this.#update();
    socket.watch(id);
  }

  entered() {
    document.getElementById("main").focus({ preventScroll: true });
  }

  dispose() {
    this.#listening.abort();
    this.#timers.forEach(clearInterval);
    this.#socket.unwatch(this.#id);
    this.#events.dispose();
    this.#picture.dispose();
    this.element.remove();
  }

  onFrame(camera, frame) {
    return camera === this.#id ? this.#picture.push(frame) : true;
  }

  toggleFullscreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.stageBox.requestFullscreen?.().catch(() => toast("This browser does not allow full screen", "error"));
  }

  // ── Parts ───────────────────────────────────────────────────────────────────────────────────────

  #fillSide() {
    const operator = this.#store.may("operator");
    this.#controls = operator ? new Controls(this.#id) : null;
    this.#pauseButton = null;
    this.#operate.replaceChildren();
    if (operator) {
      this.#pauseButton = h("button", { type: "button", class: "button", onclick: () => this.#togglePause() });
      this.#operate.append(this.#pauseButton);
    }
    if (this.#store.may("admin")) {
      this.#operate.append(
        button("trash", "Remove camera", {
          class: "icon-button",
          onclick: () => this.#actions.remove(this.#id),
        }),
      );
    }
    const details = h("section", { class: "panel", "aria-label": "Details" });
    details.append(h("div", { class: "panel-head" }, h("h2", {}, "Details")), this.#details);
    this.#side.replaceChildren(...[this.#controls?.element, details].filter(Boolean));
    this.#update();
  }

  #update() {
    const info = this.#store.cameras.get(this.#id)?.info;
    const missing = !info && this.#store.loaded;
    this.#missing.hidden = !missing;
    this.#content.hidden = missing;
    if (missing) {
      if (!this.#missing.childElementCount) {
        this.#missing.append(
          h("h2", {}, "There is no such camera"),
          h("p", { class: "empty-text" }, `No camera is called ${this.title}; it may have been removed.`),
          h("a", { class: "button", href: "#/" }, "All cameras"),
        );
      }
      setText(this.#badge, "");
      return;
    }
    if (!info) return;
    if (!this.#asked) this.#fetchDetails();
    if (this.#socket.clockOffset !== null) this.#picture.clockOffsetMs = this.#socket.clockOffset * 1000;
    const { state } = info;
    this.stageBox.dataset.state = state;
    this.stageBox.dataset.picture = this.#picture.hasPicture ? "yes" : "no";
    setText(this.#badge, stateWord(info));
    this.#badge.dataset.state = state;
    this.#badge.dataset.trouble = isTroubled(info) || isFrozen(info) ? "yes" : "no";
    setText(this.#site, info.site);
    this.#veil.update(info, this.#store.frameAge(this.#id));
    const notice = state === "live" ? reasonText(info) : "";
    setText(this.#notice, notice);
    this.#notice.hidden = !notice;
    this.#snapshotButton.disabled = state !== "live";
    this.#controls?.update(info.settings);
    if (this.#pauseButton) {
      const word = state === "suspended" ? "Resume" : "Pause";
      if (this.#pauseButton.dataset.word !== word) {
        this.#pauseButton.dataset.word = word;
        this.#pauseButton.replaceChildren(...button(word === "Pause" ? "pause" : "play", word, { text: true }).childNodes);
      }
    }
    this.#showDetails(info);
  }

  #showDetails(info) {
    const live = info.state === "live";
    const stream = info.settings.stream ?? {};
    const uptime = this.#rest?.uptime_seconds
      ? duration(this.#rest.uptime_seconds + (performance.now() - this.#restAt) / 1000)
      : "–";
    const rows = {
      Source: sourceWords(info.source_type),
      Address: info.source_type === "testPattern" ? null : this.#rest?.source || "–",
      Size: info.width ? `${info.width} × ${info.height}` : "–",
      Codec: this.#rest?.codec || null,
      Captured: live ? `${rate(info.fps)} per second` : "–",
      Sent: live && info.stream_fps ? `${rate(info.stream_fps)} per second` : "–",
      Examined: live && info.ai_enabled ? `${rate(info.inference_fps)} per second` : "–",
      "Picture age": live ? age(pictureAge(this.#store, this.#picture, info.camera)) : "–",
      Recognition: recognitionWords(info),
      "Events kept": retentionWords(info),
      Viewers: String(info.viewers),
      Dropped: this.#rest ? `${this.#rest.dropped_frames} pictures` : "–",
      "Worker up": uptime,
    };
    if (!this.#store.may("operator")) {
      rows["Live picture"] = stream.width === undefined ? null : `${stream.width || "source"} px, ${stream.fps} / s`;
    }
    for (const [name, value] of Object.entries(rows)) {
      let row = this.#details.querySelector(`[data-row="${name}"]`);
      if (value === null) {
        row?.remove();
        continue;
      }
      if (!row) {
        row = h("div", { data: { row: name } }, h("dt", {}, name), h("dd"));
        this.#details.append(row);
      }
      setText(row.lastChild, value);
    }
  }

  // ── Actions ─────────────────────────────────────────────────────────────────────────────────────

  async #fetchDetails() {
    if (document.hidden || !this.#store.cameras.has(this.#id)) return;
    this.#asked = true;
    try {
      this.#rest = await getCamera(this.#id);
      this.#restAt = performance.now();
      this.#update();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error; // the banner tells about a gateway that is away
    }
  }

  async #togglePause() {
    const paused = this.#store.cameras.get(this.#id)?.info.state === "suspended";
    this.#pauseButton.disabled = true;
    try {
      await setStreaming(this.#id, paused);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, "error");
    } finally {
      this.#pauseButton.disabled = false;
    }
  }

  async #snapshot() {
    try {
      const link = h("a", { href: await snapshotUrl(this.#id, this.#store.boxes), download: `${this.title}.jpg` });
      link.click();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, "error");
    }
  }
}
