/**
 * Client side of the `camera.v1` protocol (docs/protocol.md), without a dependency.
 *
 * `parseFrame`, `parseMeta` and `parseControl` are total: they return a value or throw a `WireError` or a
 * `ControlError` whose `fault` is one of those that the vectors name. `CameraSocket` is one connection for any
 * number of cameras: it reconnects by itself, keeps its subscriptions, and acknowledges a picture once the
 * caller has taken it in.
 */

export const SUBPROTOCOL = "camera.v1";
export const VERSION = 1;
export const MAX_FRAME_BYTES = 8 * 1024 * 1024;
export const MAX_META_BYTES = 256 * 1024;
export const MAX_DETECTIONS = 512;
export const MAX_SUBSCRIPTIONS = 256;
export const MIN_WINDOW = 2;
export const MAX_WINDOW = 8;
export const HEADER_BYTES = 40;

export const Opcode = Object.freeze({ FRAME: 1, VIDEO_CHUNK: 2, CODEC_CONFIG: 3, DETECTIONS: 4 });
export const Codec = Object.freeze({ NONE: 0, JPEG: 1, H264_ANNEX_B: 2, H265: 3, FMP4: 4 });
export const Flags = Object.freeze({ KEYFRAME: 1, DISCONTINUITY: 2, DETECTIONS_CARRIED: 4, ANNOTATED: 8 });

const TOKEN_SUBPROTOCOL = "base64url.bearer.authorization.camfleet.io.";

/** A byte string that is not a frame of this version; `fault` says why. */
export class WireError extends Error {
  constructor(fault, detail) {
    super(`${fault}: ${detail}`);
    this.name = "WireError";
    this.fault = fault;
  }
}

/** A text that is not a control message of a gateway; `fault` is `unknown_op` or `invalid`. */
export class ControlError extends Error {
  constructor(fault, detail) {
    super(`${fault}: ${detail}`);
    this.name = "ControlError";
    this.fault = fault;
  }
}

// ── Binary frames ───────────────────────────────────────────────────────────────────────────────────

/**
 * Split a binary message. Nothing is copied: `meta` and `payload` are views into the message.
 *
 * @param {ArrayBuffer | Uint8Array} data
 * @returns {{opcode: number, codec: number, flags: number, cameraId: number, seq: bigint, capturedNs: bigint,
 *   sentNs: bigint, meta: Uint8Array, payload: Uint8Array}}
 * @throws {WireError}
 */
export function parseFrame(data) {
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
  const size = bytes.byteLength;
  if (size > MAX_FRAME_BYTES) throw new WireError("too_large", `${size} bytes, at most ${MAX_FRAME_BYTES}`);
  if (size < HEADER_BYTES) {
    throw new WireError("truncated_header", `${size} bytes, a header has ${HEADER_BYTES}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, size);
  const [opcode, version, codec, flags] = bytes;
  if (version !== VERSION) {
    throw new WireError("unsupported_version", `version ${version}, expected ${VERSION}`);
  }
  if (opcode < 1 || opcode > 5) throw new WireError("unknown_opcode", `opcode ${opcode}`);
  if (codec > 5) throw new WireError("unknown_codec", `codec ${codec}`);
  const metaLength = view.getUint32(32, true);
  const payloadLength = view.getUint32(36, true);
  if (metaLength > MAX_META_BYTES) {
    throw new WireError("too_large", `meta of ${metaLength} bytes, at most ${MAX_META_BYTES}`);
  }
  const announced = HEADER_BYTES + metaLength + payloadLength;
  if (announced !== size) {
    throw new WireError("length_mismatch", `header announces ${announced} bytes, message has ${size}`);
  }
  return {
    opcode,
    codec,
    flags,
    cameraId: view.getUint32(4, true),
    seq: view.getBigUint64(8, true),
    capturedNs: view.getBigUint64(16, true),
    sentNs: view.getBigUint64(24, true),
    meta: bytes.subarray(HEADER_BYTES, HEADER_BYTES + metaLength),
    payload: bytes.subarray(HEADER_BYTES + metaLength),
  };
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const isUnit = (value) => typeof value === "number" && value >= 0 && value <= 1;
const isText = (value, most) => typeof value === "string" && value.length >= 1 && [...value].length <= most;
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isWhole = (value, least, most) => Number.isInteger(value) && value >= least && value <= most;

/**
 * Decode the meta of a frame.
 *
 * @param {Uint8Array} bytes
 * @returns {{width: number, height: number, detections: Array<{kind: string, label: string, score: number,
 *   box: number[], landmarks: number[][], track_id: number | null, person: string}>}} `person` is the id of who
 *   was recognised, whose name then is the label
 * @throws {WireError} with the fault `bad_meta`
 */
export function parseMeta(bytes) {
  const bad = (what) => new WireError("bad_meta", what);
  let meta;
  try {
    meta = JSON.parse(utf8.decode(bytes));
  } catch {
    throw bad("this is not JSON");
  }
  if (!isObject(meta)) throw bad("this is not an object");
  if (!isWhole(meta.width, 1, 16384) || !isWhole(meta.height, 1, 16384)) throw bad("width or height");
  const given = meta.detections ?? [];
  if (!Array.isArray(given) || given.length > MAX_DETECTIONS) throw bad("detections");
  const detections = given.map((item) => {
    if (!isObject(item) || !isText(item.kind, 32) || !isText(item.label, 64) || !isUnit(item.score)) {
      throw bad("a detection");
    }
    if (!Array.isArray(item.box) || item.box.length !== 4 || !item.box.every(isUnit)) throw bad("a box");
    const landmarks = item.landmarks ?? [];
    const isPoint = (point) => Array.isArray(point) && point.length === 2 && point.every(isUnit);
    if (!Array.isArray(landmarks) || landmarks.length > 128 || !landmarks.every(isPoint)) {
      throw bad("landmarks");
    }
    const { kind, label, score, box } = item;
    return { kind, label, score, box, landmarks, track_id: item.track_id ?? null, person: item.person ?? "" };
  });
  return { width: meta.width, height: meta.height, detections };
}

// ── Control messages ────────────────────────────────────────────────────────────────────────────────

const STATES = new Set(["live", "stale", "connecting", "offline", "suspended"]);
const isCamera = (value) =>
  isObject(value) && isText(value.camera, 127) && isWhole(value.id, 0, 0xffffffff) && STATES.has(value.state);
const isCameras = (value) => value === undefined || (Array.isArray(value) && value.every(isCamera));
const isString = (value) => typeof value === "string";
const isNumber = (value) => typeof value === "number";

const SERVER_OPS = {
  hello: (m) =>
    isNumber(m.version) && isString(m.session) && isString(m.server) && isString(m.role) && isCameras(m.cameras),
  status: (m) => isCameras(m.cameras) && (m.removed === undefined || Array.isArray(m.removed)),
  event: (m) => isObject(m.event) && isText(m.event.id, 64) && isNumber(m.event.time) && isString(m.event.type),
  pong: (m) => isNumber(m.t) && isNumber(m.time),
  goaway: (m) => isString(m.reason) && (m.retry_ms == null || isNumber(m.retry_ms)),
  error: (m) => isString(m.code) && isString(m.message),
};

/**
 * Decode a control message of the gateway.
 *
 * @param {string} text
 * @throws {ControlError}
 */
export function parseControl(text) {
  let message;
  try {
    message = JSON.parse(text);
  } catch {
    throw new ControlError("invalid", "this is not JSON");
  }
  if (!isObject(message) || !("op" in message)) throw new ControlError("invalid", "there is no op");
  if (!Object.hasOwn(SERVER_OPS, String(message.op))) throw new ControlError("unknown_op", "no such op");
  if (!SERVER_OPS[message.op](message)) throw new ControlError("invalid", `a field of ${message.op}`);
  return message;
}

/** Text of a `subscribe`. `maxFps` and `annotated` may be left out. */
export function subscribe(cameras, { window = MIN_WINDOW, maxFps = null, annotated = false } = {}) {
  const message = { op: "subscribe", cameras: [...cameras], window };
  if (maxFps !== null) message.max_fps = maxFps;
  return JSON.stringify({ ...message, annotated });
}

/** Text of an `unsubscribe`. */
export function unsubscribe(cameras) {
  return JSON.stringify({ op: "unsubscribe", cameras: [...cameras] });
}

/** Text of an `ack`; `seq` may be a bigint, which JSON.stringify would refuse. */
export function ack(id, seq) {
  return `{"op":"ack","id":${Number(id)},"seq":${BigInt(seq)}}`;
}

/** Text of a `ping`; `t` comes back in the `pong`. */
export function ping(t) {
  return JSON.stringify({ op: "ping", t });
}

/** Pictures under way that keep a link busy: max(2, ⌈fps · RTT⌉ + 1), at most 8. */
export function windowSize(fps, roundTripSeconds) {
  const needed = Math.ceil(Math.max(0, fps) * Math.max(0, roundTripSeconds)) + 1;
  return Math.min(MAX_WINDOW, Math.max(MIN_WINDOW, needed));
}

/** The subprotocols to offer; a browser cannot send an Authorization header with a WebSocket. */
export function subprotocols(token) {
  if (!token) return [SUBPROTOCOL];
  const binary = String.fromCharCode(...new TextEncoder().encode(token));
  const encoded = btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return [SUBPROTOCOL, TOKEN_SUBPROTOCOL + encoded];
}

// ── The connection ──────────────────────────────────────────────────────────────────────────────────

const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 2000; // a gateway that is back has its viewers back within 3 s
const RTT_PINGS = 3;
const PING_EVERY_MS = 10_000;
const PONG_WITHIN_MS = 10_000;
const PROBE_WITHIN_MS = 3000;
const CONNECT_WITHIN_MS = 10_000;
const CLOSE_UNAUTHENTICATED = 4401;
const ASSUMED_FPS = 10;

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
