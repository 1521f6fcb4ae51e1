/** A list that comes in parts: the next one is fetched when its end comes near. */

import { ApiError } from "./api.js";
import { h, setText } from "./dom.js";

const NEAR = "600px 0px";
const MOST = 3000;

export class Paged {
  #load;
  #take;
  #most;
  #cursor = null;
  #taken = 0;
  #complete = false;
  #run = new AbortController();
  #loading = false;
  #text = h("p", { class: "paged-text", role: "status" });
  #again = h("button", { type: "button", class: "button", hidden: true, onclick: () => this.more() }, "Try again");
  #observer = new IntersectionObserver(([entry]) => entry.isIntersecting && this.more(), { rootMargin: NEAR });

  /**
   * @param {{load: (cursor: string | null, options: {signal: AbortSignal}) => Promise<{items: object[], next: string | null}>,
   *   take: (items: object[], first: boolean) => void, most?: number}} parts `take` gets each part, `first` after a reset;
   *   after `most` items one has to narrow the search
   */
  constructor({ load, take, most = MOST }) {
    this.#load = load;
    this.#take = take;
    this.#most = most;
    this.element = h("div", { class: "paged-end" }, this.#text, this.#again);
  }

  /** Begin anew. */
  async reset() {
    this.#run.abort();
    this.#run = new AbortController();
    this.#cursor = null;
    this.#taken = 0;
    this.#complete = false;
    this.#loading = false;
    await this.more();
  }

  /** Fetch the next part, unless that is under way or there is none. */
  async more() {
    if (this.#loading || this.#complete) return;
    this.#loading = true;
    const run = this.#run;
    const first = this.#cursor === null;
    this.#observer.unobserve(this.element);
    this.#again.hidden = true;
    setText(this.#text, "Loading…");
    try {
      const { items, next } = await this.#load(this.#cursor, { signal: run.signal });
      if (run.signal.aborted) return;
      this.#cursor = next;
      this.#taken += items.length;
      this.#complete = !next || this.#taken >= this.#most;
      setText(this.#text, next && this.#complete ? "That is a lot. Choose a camera or a time to see what is older." : "");
      this.#take(items, first);
      if (!this.#complete) this.#observer.observe(this.element);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (run.signal.aborted) return;
      setText(this.#text, error.message);
      this.#again.hidden = false;
    } finally {
      if (this.#run === run) this.#loading = false;
    }
  }

  dispose() {
    this.#run.abort();
    this.#observer.disconnect();
  }
}
