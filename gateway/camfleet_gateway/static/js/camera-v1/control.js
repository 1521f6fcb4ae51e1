/** Control messages of `camera.v1`: JSON text with an `op`. */

import { isNumber, isObject, isString, isText, isWhole } from "./checks.js";

export const MAX_SUBSCRIPTIONS = 256;
export const MIN_WINDOW = 2;
export const MAX_WINDOW = 8;

/** A text that is not a control message of a gateway; `fault` is `unknown_op` or `invalid`. */
export class ControlError extends Error {
  constructor(fault, detail) {
    super(`${fault}: ${detail}`);
    this.name = "ControlError";
    this.fault = fault;
  }
}

const STATES = new Set(["live", "stale", "connecting", "offline", "suspended"]);
const isCamera = (value) =>
  isObject(value) && isText(value.camera, 127) && isWhole(value.id, 0, 0xffffffff) && STATES.has(value.state);
const isCameras = (value) => value === undefined || (Array.isArray(value) && value.every(isCamera));

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
