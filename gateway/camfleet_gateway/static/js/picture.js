/**
 * One live picture: a canvas with the newest decoded picture and, above it, a canvas with its detections.
 *
 * Both are drawn in the same animation frame, so boxes always belong to the picture under them. At most one
 * picture is being decoded and one waits; a newer one takes the place of the waiting one. What has been decoded
 * but not yet drawn when the next one is ready is never drawn.
 */

import { Codec, Opcode, parseMeta } from "./camera-v1.js";
import { contain, drawDetections } from "./boxes.js";
import { h } from "./dom.js";

const LABELS_FROM_WIDTH = 300;
const MAX_KEPT = 64;

/** The last picture of each camera, so that going from the grid to a camera and back never starts black. */
const kept = new Map();

/** Drop what is kept, as when somebody signs out. */
export function forgetPictures() {
  kept.clear();
}

export class Picture {
  #frame = h("canvas", { class: "frame", "aria-hidden": "true" });
  #overlay = h("canvas", { class: "overlay", "aria-hidden": "true" });
  #decoding = false;
  #waiting = null; // {frame, resolve}
  #ready = null; // {bitmap, meta, capturedMs}
  #request = 0;
  #detections = [];
  #boxes = true;
  #size = { width: 0, height: 0 };
  #observer;

  /** Pictures drawn since the start. */
  drawn = 0;
  /** performance.now() of the last drawn picture; null before the first. */
  drawnAt = null;
  /** Unix milliseconds, on the worker's clock, of the picture on show. */
  capturedMs = null;
  /** Milliseconds from capture to drawing, smoothed; null before the first picture. */
  delayMs = null;
  /** Milliseconds that the gateway's clock is ahead of this machine's. */
  clockOffsetMs = 0;

  /** @param {string} camera id, to find its last picture again */
  constructor(camera) {
    this.camera = camera;
    const last = kept.get(camera);
    if (last) {
      ({ drawnAt: this.drawnAt, capturedMs: this.capturedMs, delayMs: this.delayMs } = last);
      this.#frame = last.frame;
      this.#detections = last.detections;
    }
    this.element = h("div", { class: "stage" }, this.#frame, this.#overlay);
    this.#observer = new ResizeObserver(([entry]) => {
      this.#size = { width: entry.contentRect.width, height: entry.contentRect.height };
      this.#drawOverlay();
    });
    this.#observer.observe(this.element);
  }

  /** Forget everything and stop watching the size. */
  dispose() {
    this.#observer.disconnect();
    if (this.hasPicture) {
      const { drawnAt, capturedMs, delayMs } = this;
      kept.delete(this.camera);
      kept.set(this.camera, { frame: this.#frame, detections: this.#detections, drawnAt, capturedMs, delayMs });
      if (kept.size > MAX_KEPT) kept.delete(kept.keys().next().value);
    }
    cancelAnimationFrame(this.#request);
    this.#ready?.bitmap.close();
    this.#ready = null;
    this.#waiting?.resolve(false);
    this.#waiting = null;
  }

  /** Whether a picture is on show. */
  get hasPicture() {
    return this.drawnAt !== null;
  }

  /** Size of the picture on show in its own pixels. */
  get pictureSize() {
    return { width: this.#frame.width, height: this.#frame.height };
  }

  get detections() {
    return this.#detections;
  }

  showBoxes(on) {
    this.#boxes = on;
    this.#drawOverlay();
  }

  /**
   * Take a frame in.
   *
   * @returns {Promise<boolean>} settles when it is decoded; false if a newer one was preferred
   */
  push(frame) {
    if (frame.opcode !== Opcode.FRAME || frame.codec !== Codec.JPEG) return Promise.resolve(true);
    if (!this.#decoding) return this.#decode(frame);
    this.#waiting?.resolve(false);
    return new Promise((resolve) => {
      this.#waiting = { frame, resolve };
    });
  }

  async #decode(frame) {
    this.#decoding = true;
    try {
      const meta = frame.meta.length ? parseMeta(frame.meta) : { detections: [] };
      const bitmap = await createImageBitmap(new Blob([frame.payload], { type: "image/jpeg" }));
      this.#ready?.bitmap.close();
      this.#ready = { bitmap, meta, capturedMs: Number(frame.capturedNs / 1000n) / 1000 };
      this.#request ||= requestAnimationFrame(() => this.#draw());
      return true;
    } finally {
      this.#decoding = false;
      const next = this.#waiting;
      this.#waiting = null;
      if (next) this.#decode(next.frame).then(next.resolve, () => next.resolve(true));
    }
  }

  #draw() {
    this.#request = 0;
    if (!this.#ready) return;
    const { bitmap, meta, capturedMs } = this.#ready;
    this.#ready = null;
    const canvas = this.#frame;
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
    }
    canvas.getContext("2d", { alpha: false }).drawImage(bitmap, 0, 0);
    bitmap.close();
    this.#detections = meta.detections;
    this.capturedMs = capturedMs;
    this.drawnAt = performance.now();
    const delay = Math.max(0, Date.now() + this.clockOffsetMs - capturedMs);
    this.delayMs = this.delayMs === null ? delay : this.delayMs * 0.8 + delay * 0.2;
    this.drawn += 1;
    this.element.dataset.drawn = this.drawn;
    this.#drawOverlay();
  }

  #drawOverlay() {
    const canvas = this.#overlay;
    const { width, height } = this.#size;
    const ratio = globalThis.devicePixelRatio || 1;
    const wide = Math.round(width * ratio);
    const high = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    if (canvas.width !== wide || canvas.height !== high) {
      canvas.width = wide;
      canvas.height = high;
    } else {
      context.clearRect(0, 0, wide, high);
    }
    if (!this.#boxes || !this.hasPicture || !width || !height) return;
    context.save();
    context.scale(ratio, ratio);
    const area = contain(this.#frame.width, this.#frame.height, width, height);
    drawDetections(context, this.#detections, area, { labels: width >= LABELS_FROM_WIDTH });
    context.restore();
  }
}
