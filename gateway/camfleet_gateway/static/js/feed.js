/** Events as they happen, from `/ws/events` with the filters of a view; connects again by itself. */

import { subprotocols } from "./camera-v1.js";
import { token } from "./api.js";

const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 15_000;
const FINAL = new Set([4401, 4404, 1008]); // no token, no such camera, filters that the gateway does not take

export class EventFeed {
  #address;
  #onEvent;
  #onAgain;
  #socket = null;
  #retry = FIRST_RETRY_MS;
  #timer = 0;
  #opened = false;
  #closed = false;

  /**
   * @param {string} query as of `GET /api/events`, with `?` or empty
   * @param {{onEvent: (event: object) => void, onAgain: () => void}} heard `onAgain`: connected after a pause in which
   *   events may have been missed
   */
  constructor(query, { onEvent, onAgain }) {
    this.#address = new URL(`/ws/events${query}`, location.href);
    this.#address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.#onEvent = onEvent;
    this.#onAgain = onAgain;
    this.#connect();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
    this.#socket = null;
  }

  #connect() {
    const socket = (this.#socket = new WebSocket(this.#address, subprotocols(token.get())));
    socket.onopen = () => {
      this.#retry = FIRST_RETRY_MS;
      if (this.#opened) this.#onAgain();
      this.#opened = true;
    };
    socket.onmessage = ({ data }) => {
      const message = parse(data);
      if (message?.type === "event" && message.event?.id) this.#onEvent(message.event);
    };
    socket.onclose = ({ code }) => {
      if (this.#closed || this.#socket !== socket || FINAL.has(code)) return;
      this.#timer = setTimeout(() => this.#connect(), this.#retry * (0.75 + Math.random() / 2));
      this.#retry = Math.min(this.#retry * 2, LAST_RETRY_MS);
    };
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // such as “pong”
  }
}
