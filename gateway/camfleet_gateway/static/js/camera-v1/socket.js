/** The connection of a viewer: kept up, with its subscriptions, its acknowledgements and its round trip. */

import {
  ControlError,
  MAX_SUBSCRIPTIONS,
  ack,
  parseControl,
  ping,
  subscribe,
  unsubscribe,
  windowSize,
} from "./control.js";
import { WireError, parseFrame } from "./frame.js";

export const SUBPROTOCOL = "camera.v1";
const TOKEN_SUBPROTOCOL = "base64url.bearer.authorization.camfleet.io.";

const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 2000; // a gateway that is back has its viewers back within 3 s
const RTT_PINGS = 3;
const PING_EVERY_MS = 10_000;
const PONG_WITHIN_MS = 10_000;
const PROBE_WITHIN_MS = 3000;
const CONNECT_WITHIN_MS = 10_000;
const CLOSE_UNAUTHENTICATED = 4401;
const ASSUMED_FPS = 10;

/** The subprotocols to offer; a browser cannot send an Authorization header with a WebSocket. */
export function subprotocols(token) {
  if (!token) return [SUBPROTOCOL];
  const binary = String.fromCharCode(...new TextEncoder().encode(token));
  const encoded = btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return [SUBPROTOCOL, TOKEN_SUBPROTOCOL + encoded];
}

/** Milliseconds before attempt `attempt` (0 is the first retry): doubling, between half and the whole of it. */
export function retryDelay(attempt, random = Math.random) {
  const most = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(attempt, 10));
  return most * (0.5 + random() / 2);
}

/**
 * One WebSocket for a whole grid of cameras.
 *
 * Events (`CustomEvent`, payload in `detail`):
 * - `state` `{state, retryInMs?, reason?}`: `connecting`, `open`, `waiting`, `closed` or `unauthenticated`
 * - `hello`, `status`, `event`, `error`: the messages of the gateway
 * - `fault` `{error}`: something the gateway sent was not understood; the connection goes on
 *
 * `onFrame(camera, frame)` is called for every picture and may return a promise; when that settles, the picture
 * counts as taken in and is acknowledged. Resolve with `false` for a picture that was skipped in favour of a
 * newer one: acknowledgements are cumulative, so the newer one's covers it, and the gateway feels that this
 * receiver is slow.
 */
export class CameraSocket extends EventTarget {
  #url;
  #token;
  #onFrame;
  #options;
  #socket = null;
  #open = false;
  #retries = 0;
  #timers = new Map();
  #wanted = new Map(); // camera → {maxFps, annotated}
  #active = new Map(); // camera → key of the options that the gateway knows
  #names = new Map(); // numeric id → camera
  #acked = new Map(); // numeric id → highest seq acknowledged
  #pings = 0;
  #flushPending = false;
  #stopped = true;
  #paused = false;

  /** Round trip of the idle link in seconds; Infinity before it is measured. */
  roundTrip = Infinity;
  /** Seconds that the gateway's clock is ahead of ours, from the fastest ping; null before the first. */
  clockOffset = null;

  constructor(url, { token = "", onFrame = () => {}, WebSocket = globalThis.WebSocket, random = Math.random } = {}) {
    super();
    this.#url = url;
    this.#token = token;
    this.#onFrame = onFrame;
    this.#options = { WebSocket, random };
  }

  /** Connect, and stay connected until `close`. */
  connect() {
    this.#stopped = false;
    this.#retries = 0;
    this.#dial();
  }

  /** Disconnect for good. */
  close() {
    this.#stopped = true;
    this.#drop(1000, "closed");
    this.#announce("closed");
  }

  /** Use another token from the next connection on; reconnects now. */
  setToken(token) {
    this.#token = token;
    this.#drop(1000, "new token");
    this.connect();
  }

  /** Try at once instead of waiting for the backoff, as when the network came back. */
  retryNow() {
    if (!this.#stopped && !this.#socket) {
      this.#retries = 0;
      this.#dial();
    }
  }

  /** Watch a camera; again with other options replaces them. Remembered across reconnects. */
  watch(camera, { maxFps = null, annotated = false } = {}) {
    this.#wanted.set(camera, { maxFps, annotated });
    this.#scheduleFlush();
  }

  /** Stop watching a camera. */
  unwatch(camera) {
    if (this.#wanted.delete(camera)) this.#scheduleFlush();
  }

  /** Unsubscribe from everything while nobody looks (a hidden tab), keeping the connection and the wishes. */
  setPaused(paused) {
    if (this.#paused === paused) return;
    this.#paused = paused;
    this.#scheduleFlush();
    if (paused) return;
    this.retryNow();
    if (this.#open) this.#ping(PROBE_WITHIN_MS); // the machine may have slept
  }

  /** Cameras that the gateway now sends. */
  get subscribed() {
    return [...this.#active.keys()];
  }

  get isOpen() {
    return this.#open;
  }

  // ── Connecting ──────────────────────────────────────────────────────────────────────────────────

  #dial() {
    this.#clearTimers();
    this.#announce("connecting");
    let socket;
    try {
      socket = new this.#options.WebSocket(this.#url, subprotocols(this.#token));
    } catch (error) {
      this.#retry(String(error));
      return;
    }
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    const mine = (handler) => (event) => this.#socket === socket && handler(event);
    socket.onmessage = mine((event) => this.#receive(event.data));
    socket.onclose = mine((event) => this.#closed(event));
    socket.onerror = null; // a close always follows
    this.#later("hello", CONNECT_WITHIN_MS, () => this.#lost("no answer"));
  }

  #closed({ code, reason }) {
    this.#forget();
    if (code === CLOSE_UNAUTHENTICATED) {
      this.#stopped = true;
      this.#announce("unauthenticated", { reason });
    } else if (!this.#stopped) {
      this.#retry(reason || `closed with ${code}`);
    }
  }

  #lost(reason) {
    this.#drop(4000, reason);
    this.#retry(reason);
  }

  #drop(code, reason) {
    const socket = this.#socket;
    this.#forget();
    if (socket) socket.close(code, reason);
  }

  #forget() {
    this.#clearTimers();
    this.#socket = null;
    this.#open = false;
    this.#active.clear();
    this.#names.clear();
    this.#acked.clear();
    this.roundTrip = Infinity;
    this.clockOffset = null;
  }

  #retry(reason, delay = retryDelay(this.#retries, this.#options.random)) {
    this.#retries += 1;
    this.#announce("waiting", { retryInMs: delay, reason });
    this.#later("retry", delay, () => this.#dial());
  }

  // ── Receiving ───────────────────────────────────────────────────────────────────────────────────

  #receive(data) {
    try {
      if (typeof data === "string") this.#control(parseControl(data));
      else this.#frame(parseFrame(data));
    } catch (error) {
      if (!(error instanceof WireError || error instanceof ControlError)) throw error;
      // A newer gateway may say more than we know; that is no reason to leave.
      if (error.fault !== "unknown_op") this.#emit("fault", { error });
    }
  }

  #control(message) {
    switch (message.op) {
      case "hello":
        this.#cancel("hello");
        this.#retries = 0;
        this.#learn(message.cameras);
        this.#emit("hello", message);
        this.#pings = 0;
        this.#ping();
        break;
      case "status":
        this.#learn(message.cameras);
        for (const camera of message.removed ?? []) this.#active.delete(camera);
        this.#emit("status", message);
        this.#scheduleFlush(); // a camera that was wanted before it existed
        break;
      case "pong":
        this.#pong(message);
        break;
      case "goaway":
        if (message.retry_ms == null) this.#stopped = true;
        this.#drop(1000, "goaway");
        if (this.#stopped) this.#announce("closed", { reason: message.reason });
        else this.#retry(message.reason, message.retry_ms * (1 + this.#options.random() / 4));
        break;
      default:
        this.#emit(message.op, message);
    }
  }

  #learn(cameras) {
    for (const info of cameras ?? []) this.#names.set(info.id, info.camera);
  }

  #frame(frame) {
    const camera = this.#names.get(frame.cameraId);
    const socket = this.#socket;
    const taken = () => this.#socket === socket && this.#acknowledge(frame);
    if (camera === undefined || !this.#active.has(camera)) {
      taken(); // late pictures of a camera that is no longer watched
      return;
    }
    Promise.resolve(this.#onFrame(camera, frame)).then((drawn) => drawn !== false && taken(), taken);
  }

  #acknowledge(frame) {
    const before = this.#acked.get(frame.cameraId);
    if (before !== undefined && frame.seq <= before) return;
    this.#acked.set(frame.cameraId, frame.seq);
    this.#send(ack(frame.cameraId, frame.seq));
  }

  // ── Round trip and liveness ─────────────────────────────────────────────────────────────────────

  #ping(within = PONG_WITHIN_MS) {
    this.#later("pong", within, () => this.#lost("no pong"));
    this.#send(ping(performance.now()));
  }

  #pong({ t, time }) {
    this.#cancel("pong");
    const elapsed = (performance.now() - t) / 1000;
    if (elapsed >= 0 && elapsed < this.roundTrip) {
      this.clockOffset = time + elapsed / 2 - Date.now() / 1000;
      if (!this.#open) this.roundTrip = elapsed; // later ones share the link with pictures
    }
    this.#pings += 1;
    if (this.#pings < RTT_PINGS) {
      this.#ping();
      return;
    }
    this.#later("ping", PING_EVERY_MS, () => this.#ping());
    if (!this.#open) {
      this.#open = true;
      this.#announce("open");
      this.#flush();
    }
  }

  // ── Subscriptions ───────────────────────────────────────────────────────────────────────────────

  #scheduleFlush() {
    if (this.#flushPending) return;
    this.#flushPending = true;
    queueMicrotask(() => {
      this.#flushPending = false;
      this.#flush();
    });
  }

  #flush() {
    if (!this.#open) return;
    const wanted = this.#paused ? new Map() : this.#wanted;
    const known = new Set(this.#names.values());
    const gone = [...this.#active.keys()].filter((camera) => !wanted.has(camera));
    for (const camera of gone) this.#active.delete(camera);
    for (const some of chunks(gone)) this.#send(unsubscribe(some));
    const groups = new Map();
    for (const [camera, { maxFps, annotated }] of wanted) {
      const window = windowSize(maxFps ?? ASSUMED_FPS, this.roundTrip);
      const options = { window, maxFps, annotated };
      const key = JSON.stringify(options);
      if (!known.has(camera) || this.#active.get(camera) === key) continue;
      this.#active.set(camera, key);
      if (!groups.has(key)) groups.set(key, { options, cameras: [] });
      groups.get(key).cameras.push(camera);
    }
    for (const { options, cameras } of groups.values()) {
      for (const some of chunks(cameras)) this.#send(subscribe(some, options));
    }
  }

  // ── Small things ────────────────────────────────────────────────────────────────────────────────

  #send(text) {
    if (this.#socket?.readyState === 1) this.#socket.send(text);
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #announce(state, detail = {}) {
    this.#emit("state", { state, ...detail });
  }

  #later(name, ms, action) {
    this.#cancel(name);
    this.#timers.set(
      name,
      setTimeout(() => {
        this.#timers.delete(name);
        action();
      }, ms),
    );
  }

  #cancel(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  #clearTimers() {
    for (const name of [...this.#timers.keys()]) this.#cancel(name);
  }
}

function chunks(items) {
  const result = [];
  for (let start = 0; start < items.length; start += MAX_SUBSCRIPTIONS) {
    result.push(items.slice(start, start + MAX_SUBSCRIPTIONS));
  }
  return result;
}
