/** Binary messages of `camera.v1`: header, meta and payload. */

import { isObject, isText, isUnit, isWhole } from "./checks.js";

export const VERSION = 1;
export const MAX_FRAME_BYTES = 8 * 1024 * 1024;
export const MAX_META_BYTES = 256 * 1024;
export const MAX_DETECTIONS = 512;
export const HEADER_BYTES = 40;

export const Opcode = Object.freeze({ FRAME: 1, VIDEO_CHUNK: 2, CODEC_CONFIG: 3, DETECTIONS: 4 });
export const Codec = Object.freeze({ NONE: 0, JPEG: 1, H264_ANNEX_B: 2, H265: 3, FMP4: 4 });
export const Flags = Object.freeze({ KEYFRAME: 1, DISCONTINUITY: 2, DETECTIONS_CARRIED: 4, ANNOTATED: 8 });

/** A byte string that is not a frame of this version; `fault` says why. */
export class WireError extends Error {
  constructor(fault, detail) {
    super(`${fault}: ${detail}`);
    this.name = "WireError";
    this.fault = fault;
  }
}

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
