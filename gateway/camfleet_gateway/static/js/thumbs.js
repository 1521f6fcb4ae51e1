/**
 * Pictures that need the token, which `<img>` cannot send.
 *
 * Each is fetched when it comes near the visible part of the page, a few at a time, and dropped when it is far
 * away again. An object URL lives only until its picture is decoded.
 */

import { ApiError, fetchBlob } from "./api.js";
import { h, icon } from "./dom.js";

const AT_ONCE = 6;
const NEAR = "800px 0px";

/** The pictures of one view; `dispose` lets go of all of them. */
export class Thumbs {
  #wanted = new Map(); // element → {path, version}
  #queue = [];
  #running = 0;
  #disposed = new AbortController();
  #observer = new IntersectionObserver((entries) => this.#onNear(entries), { rootMargin: NEAR });

  /**
   * A place for a picture.
   *
   * @param {string | null} path none: only the symbol
   * @param {{version?: string|number, symbol?: string, alt?: string, class?: string}} options a new version is fetched anew
   */
  make(path, { version = "", symbol = "image", alt = "", class: className = "" } = {}) {
    const element = h("span", { class: `thumb ${className}`.trim() }, icon(symbol), h("img", { alt, hidden: true }));
    this.#wanted.set(element, { path: null, version: "" });
    this.#observer.observe(element);
    this.change(element, path, version);
    return element;
  }

  /** Show another picture there, or the new version of it. */
  change(element, path, version = "") {
    const before = this.#wanted.get(element);
    if (!before || (before.path === path && before.version === version)) return;
    this.#wanted.set(element, { path, version, near: before.near });
    element.dataset.picture = path ? "waiting" : "none";
    if (before.near) this.#ask(element);
  }

  /** Forget a place, or all below an element. */
  forget(element) {
    for (const one of this.#wanted.keys()) {
      if (one !== element && !element.contains(one)) continue;
      this.#observer.unobserve(one);
      this.#wanted.delete(one);
    }
  }

  dispose() {
    this.#disposed.abort();
    this.#observer.disconnect();
    this.#wanted.clear();
    this.#queue = [];
  }

  #onNear(entries) {
    for (const { target, isIntersecting } of entries) {
      const wanted = this.#wanted.get(target);
      if (!wanted) continue;
      wanted.near = isIntersecting;
      if (isIntersecting) this.#ask(target);
      else this.#drop(target);
    }
  }

  #drop(element) {
    const image = element.querySelector("img");
    if (!image.hasAttribute("src")) return;
    image.hidden = true;
    image.removeAttribute("src");
    element.dataset.picture = "waiting";
  }

  #ask(element) {
    const wanted = this.#wanted.get(element);
    if (!wanted?.path || element.dataset.picture === "shown" || this.#queue.includes(element)) return;
    this.#queue.push(element);
    this.#next();
  }

  #next() {
    while (this.#running < AT_ONCE && this.#queue.length) {
      const element = this.#queue.shift();
      const wanted = this.#wanted.get(element);
      if (!wanted?.near || !wanted.path) continue;
      this.#running += 1;
      this.#fetch(element, wanted).finally(() => {
        this.#running -= 1;
        this.#next();
      });
    }
  }

  async #fetch(element, wanted) {
    let blob;
    try {
      blob = await fetchBlob(wanted.path, { signal: this.#disposed.signal });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (this.#wanted.get(element) === wanted) element.dataset.picture = "none"; // deleted, or the gateway is away
      return;
    }
    if (this.#wanted.get(element) === wanted && wanted.near) await showBlob(element.querySelector("img"), blob, element);
  }
}

/** Show a picture that is at hand; its object URL is given back at once. */
export async function showBlob(image, blob, holder = image) {
  const url = URL.createObjectURL(blob);
  const done = new Promise((resolve) => {
    image.addEventListener("load", () => resolve(true), { once: true });
    image.addEventListener("error", () => resolve(false), { once: true });
  });
  image.src = url;
  const shown = await done;
  URL.revokeObjectURL(url);
  image.hidden = !shown;
  holder.dataset.picture = shown ? "shown" : "none";
  return shown;
}
