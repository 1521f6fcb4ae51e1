/** Starts the page: session, connection, routes and keys. */

import { AlertWatch } from "./alert-watch.js";
import { AlertsView } from "./alerts-view.js";
import { ApiError, session, token } from "./api.js";
import { listEvents } from "./api-records.js";
import { CameraSocket } from "./camera-v1.js";
import { closeDialogs } from "./dialog.js";
import { confirmRemove, showAdd, showHelp } from "./dialogs.js";
import { announce, setText } from "./dom.js";
import { EventDrawer } from "./events.js";
import { EventsView } from "./events-view.js";
import { GridView } from "./grid.js";
import { LoginView } from "./login.js";
import { PeopleView } from "./people-view.js";
import { PersonView } from "./person-view.js";
import { forgetPictures } from "./picture.js";
import { remember, remembered } from "./prefs.js";
import { parseRoute, PLACES } from "./routes.js";
import { SearchView } from "./search-view.js";
import { Store } from "./store.js";
import { TopBar } from "./topbar.js";
import { CameraView } from "./view.js";
import { shortName, stateWord } from "./words.js";

const BANNER_AFTER_MS = 400;
const SESSION_RETRY_MS = 1000;

class App {
  #main = document.getElementById("main");
  #banner = document.getElementById("banner");
  #store = new Store();
  #socket;
  #bar;
  #drawer;
  #alerts;
  #view = null;
  #route = null; // what the view shows: a place, and of what
  #lastCamera = null;
  #signedIn = false;
  #bannerTimer = 0;

  constructor() {
    const address = new URL("/ws", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.#socket = new CameraSocket(address.href, {
      token: token.get(),
      onFrame: (camera, frame) => this.#view?.onFrame(camera, frame),
    });
    this.#store.boxes = remembered("boxes", ["on", "off"], "on") === "on";
    this.#drawer = new EventDrawer(this.#store);
    this.#alerts = new AlertWatch(this.#store);
    this.#bar = new TopBar(this.#store, {
      add: showAdd,
      help: () => showHelp(this.#store.version),
      events: () => this.#toggleEvents(),
      signOut: () => this.#signOut(),
    });
    this.#drawer.onToggle = () => {
      this.#bar.setEventsOpen(false);
      this.#bar.focusEvents();
    };
    this.#listen();
  }

  async start() {
    for (;;) {
      try {
        this.#enter(await session());
        return;
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.status === 401) {
          this.#login(token.get() ? "The token is no longer valid" : "");
          return;
        }
        this.#showBanner(error.status === 0 ? "Connecting to the gateway…" : error.message);
        await new Promise((resolve) => setTimeout(resolve, SESSION_RETRY_MS));
      }
    }
  }

  // ── Session ─────────────────────────────────────────────────────────────────────────────────────

  #enter(found) {
    this.#signedIn = true;
    this.#hideBanner();
    this.#store.setSession(found);
    this.#bar.setSignedIn(true);
    this.#socket.setToken(token.get());
    this.#loadEvents();
    this.#alerts.count();
    this.#navigate(true);
  }

  #login(message = "") {
    this.#signedIn = false;
    this.#socket.close();
    this.#drawer.toggle(false);
    closeDialogs();
    this.#hideBanner();
    this.#bar.setSignedIn(false);
    this.#show(() => new LoginView((found) => this.#enter(found), message));
    forgetPictures();
    this.#route = null;
  }

  #signOut() {
    token.set("");
    this.#store.replaceCameras([]);
    this.#store.replaceEvents([]);
    this.#store.setOpenAlerts(0);
    this.#store.loaded = false;
    this.#login();
  }

  async #loadEvents() {
    try {
      this.#store.replaceEvents((await listEvents({ limit: 100 })).events);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error; // the next hello tries again
    }
  }

  // ── Connection ──────────────────────────────────────────────────────────────────────────────────

  #listen() {
    const on = (type, handler) => this.#socket.addEventListener(type, ({ detail }) => handler(detail));
    on("hello", (hello) => this.#store.replaceCameras(hello.cameras ?? []));
    on("status", (status) => this.#store.update(status.cameras ?? [], status.removed ?? []));
    on("event", ({ event }) => {
      this.#store.addEvent(event);
      this.#alerts.happened(event);
    });
    on("state", (detail) => this.#onLink(detail));
    this.#store.addEventListener("state", ({ detail }) => {
      announce(`${shortName(detail.info.camera)}: ${stateWord(detail.info)}`);
    });
    this.#store.addEventListener("boxes", () => remember("boxes", this.#store.boxes ? "on" : "off"));
    addEventListener("hashchange", () => this.#navigate());
    addEventListener("online", () => this.#socket.retryNow());
    addEventListener("keydown", (event) => this.#onKey(event));
    document.addEventListener("visibilitychange", () => this.#socket.setPaused(document.hidden));
  }

  #onLink({ state }) {
    if (!this.#signedIn) return;
    const before = document.body.dataset.link;
    if (state === "unauthenticated") {
      this.#login("The token is no longer valid");
      return;
    }
    if (state === "open") {
      document.body.dataset.link = "open";
      this.#hideBanner();
      if (before === "lost") {
        announce("Connected again");
        this.#loadEvents();
        this.#alerts.count();
      }
      return;
    }
    if (state === "waiting" || state === "closed") {
      if (before === "open") document.body.dataset.link = "lost";
      clearTimeout(this.#bannerTimer);
      const text = state === "closed" ? "The gateway ended the connection. Reload to try again." : "Reconnecting…";
      this.#bannerTimer = setTimeout(() => this.#showBanner(text), before === "lost" ? 0 : BANNER_AFTER_MS);
      if (state === "waiting") this.#checkSession();
    }
  }

  /** A refused WebSocket looks like any failure to a page; the session tells whether it was the token. */
  async #checkSession() {
    try {
      await session();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 401 && this.#signedIn) this.#login("The token is no longer valid");
    }
  }

  #showBanner(text) {
    setText(this.#banner, text);
    this.#banner.hidden = false;
  }

  #hideBanner() {
    clearTimeout(this.#bannerTimer);
    this.#banner.hidden = true;
  }

  // ── Routes ──────────────────────────────────────────────────────────────────────────────────────

  #navigate(again = false) {
    if (!this.#signedIn) return;
    const route = parseRoute(location.hash);
    const same = `${route.place}/${route.id ?? ""}`;
    this.#bar.setPlace(route.place);
    if (same === this.#route && !again) {
      this.#view.follow?.(route);
      return;
    }
    this.#route = same;
    closeDialogs();
    this.#show(() => this.#viewOf(route));
  }

  #viewOf(route) {
    const last = this.#lastCamera;
    this.#lastCamera = null;
    switch (route.place) {
      case "camera": {
        this.#lastCamera = route.id;
        const remove = (id) => confirmRemove(id, () => this.#goHome());
        return new CameraView(route.id, this.#store, this.#socket, { remove });
      }
      case "events":
        return new EventsView(this.#store, route);
      case "people":
        return new PeopleView(this.#store, route);
      case "person":
        return new PersonView(this.#store, route);
      case "alerts":
        return new AlertsView(this.#store, route, this.#alerts);
      case "search":
        return new SearchView(this.#store, route);
      default:
        return new GridView(this.#store, this.#socket, { add: showAdd, focus: last });
    }
  }

  /** Replace the view; the old one lets go of its cameras before the new one asks for its own. */
  #show(make) {
    this.#view?.dispose();
    const view = (this.#view = make());
    this.#main.replaceChildren(view.element);
    document.title = `${view.title} · Camfleet`;
    scrollTo(0, 0);
    view.entered();
  }

  #goHome() {
    location.hash = "#/";
  }

  #toggleEvents() {
    this.#drawer.toggle();
    this.#bar.setEventsOpen(this.#drawer.open);
  }

  // ── Keys ────────────────────────────────────────────────────────────────────────────────────────

  #onKey(event) {
    if (!this.#signedIn || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    const typing = event.target.closest?.("input:not([type=checkbox], [type=range]), select, textarea");
    if (event.key === "Escape") {
      if (typing) event.target.blur();
      else if (document.fullscreenElement) return;
      else if (this.#drawer.open) this.#drawer.toggle(false);
      else if (this.#view instanceof CameraView) this.#goHome();
      return;
    }
    if (typing) return;
    const action = {
      "?": () => showHelp(this.#store.version),
      "/": () => this.#view.searchField?.focus(),
      b: () => this.#store.setBoxes(!this.#store.boxes),
      e: () => this.#toggleEvents(),
      f: () => this.#view instanceof CameraView && this.#view.toggleFullscreen(),
    }[event.key] ?? this.#placeOf(event.key);
    if (!action) return;
    event.preventDefault();
    action();
  }

  /** The digits lead to the places of the navigation. */
  #placeOf(key) {
    const place = /^[1-9]$/.test(key) ? PLACES[Number(key) - 1] : undefined;
    if (!place || (place.role && !this.#store.may(place.role))) return null;
    return () => {
      location.hash = place.href;
    };
  }
}

new App().start();
