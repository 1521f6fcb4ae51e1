/** What the page knows: cameras, events, the connection and the session. Views listen to it. */

const MAX_EVENTS = 300;
const LEVELS = { viewer: 1, operator: 2, admin: 3 };

export class Store extends EventTarget {
  /** @type {Map<string, {info: object, at: number}>} by id; `at` is performance.now() of the report */
  cameras = new Map();
  /** Newest first. */
  events = [];
  unseenEvents = 0;
  /** Alerts that nobody has acknowledged, as far as is known; the gateway counts to 100. */
  openAlerts = 0;
  role = "viewer";
  authentication = false;
  version = "";
  link = "connecting";
  /** Whether the gateway has told its cameras at least once. */
  loaded = false;
  /** Whether boxes are drawn over the pictures. */
  boxes = true;

  may(role) {
    return LEVELS[this.role] >= LEVELS[role];
  }

  setSession({ role, authentication, version }) {
    Object.assign(this, { role, authentication, version });
    this.#emit("session");
  }

  setLink(link, detail = {}) {
    const before = this.link;
    this.link = link;
    this.#emit("link", { before, ...detail });
  }

  setBoxes(on) {
    this.boxes = on;
    this.#emit("boxes");
  }

  /** The gateway's whole list. */
  replaceCameras(infos) {
    const before = this.cameras;
    this.cameras = new Map();
    this.loaded = true;
    this.#put(infos, before);
    this.#emit("list");
    this.#emit("cameras", { ids: [...this.cameras.keys()] });
  }

  /** Cameras that changed or went. */
  update(infos, removed = []) {
    const known = this.cameras.size;
    let gone = 0;
    for (const id of removed) gone += this.cameras.delete(id) ? 1 : 0;
    this.#put(infos, this.cameras);
    if (gone || this.cameras.size !== known) this.#emit("list");
    this.#emit("cameras", { ids: infos.map((info) => info.camera) });
  }

  #put(infos, before) {
    const at = performance.now();
    for (const info of infos) {
      const old = before.get(info.camera)?.info;
      this.cameras.set(info.camera, { info: withDefaults(info), at });
      if (old && old.state !== info.state) this.#emit("state", { info: withDefaults(info), before: old.state });
    }
  }

  /** Milliseconds since the worker of a camera last had a picture, as far as we were told; null if never. */
  frameAge(id) {
    const entry = this.cameras.get(id);
    if (!entry || entry.info.frame_age_ms === null) return null;
    return entry.info.frame_age_ms + performance.now() - entry.at;
  }

  replaceEvents(events) {
    this.events = events.slice(0, MAX_EVENTS);
    this.#emit("events", {});
  }

  /** A new event, or more about one that is known: whatever changes an event raises its revision. */
  addEvent(event) {
    const at = this.events.findIndex((known) => known.id === event.id);
    if (at >= 0) {
      if ((event.revision ?? 0) <= (this.events[at].revision ?? 0)) return;
      this.events[at] = event;
      this.#emit("events", { event });
      return;
    }
    const last = this.events[MAX_EVENTS - 1];
    if (last && event.time < last.time) return; // more about one that has left the list
    this.events = [event, ...this.events].slice(0, MAX_EVENTS);
    this.unseenEvents += 1;
    this.#emit("events", { event });
  }

  setOpenAlerts(count) {
    if (count === this.openAlerts) return;
    this.openAlerts = count;
    this.#emit("alerts");
  }

  seeEvents() {
    this.unseenEvents = 0;
    this.#emit("events", {});
  }

  #emit(type, detail = {}) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** The gateway leaves out what is null; figures that nobody reported are zero. */
function withDefaults(info) {
  return {
    reason: "",
    message: "",
    source_type: null,
    fps: 0,
    stream_fps: 0,
    inference_fps: 0,
    viewers: 0,
    frame_age_ms: null,
    width: 0,
    height: 0,
    ai_enabled: false,
    settings: {},
    site: "",
    ...info,
  };
}
