/** Asks for the access token. */

import { ApiError, session, token } from "./api.js";
import { h, setText } from "./dom.js";

export class LoginView {
  title = "Sign in";
  #error = h("p", { class: "field-error", id: "login-error", role: "alert", hidden: true });
  #field = h("input", {
    class: "field",
    id: "login-token",
    type: "password",
    autocomplete: "current-password",
    autocapitalize: "none",
    spellcheck: "false",
    placeholder: "cft_…",
    maxlength: 512,
    "aria-describedby": "login-hint login-error",
  });
  #submit = h("button", { type: "submit", class: "button primary wide" }, "Sign in");
  #done;

  /** @param {(session: object) => void} done @param {string} [message] why we ask */
  constructor(done, message = "") {
    this.#done = done;
    this.element = h(
      "section",
      { class: "login" },
      h(
        "form",
        { class: "login-card", novalidate: true, onsubmit: (event) => this.#onSubmit(event) },
        h("img", { src: "/static/icon.svg", alt: "", width: 40, height: 40 }),
        h("h1", {}, "Sign in to Camfleet"),
        h("label", { for: "login-token" }, "Access token"),
        this.#field,
        this.#error,
        this.#submit,
        h("p", { class: "hint", id: "login-hint" }, "Tokens are made with ", h("code", {}, "camfleet token"), ". This one is kept until you close the tab."),
      ),
    );
    if (message) this.#complain(message);
  }

  entered() {
    this.#field.focus();
  }

  dispose() {
    this.element.remove();
  }

  onFrame() {}

  async #onSubmit(event) {
    event.preventDefault();
    const value = this.#field.value.trim();
    if (!value) {
      this.#complain("Please enter a token");
      return;
    }
    this.#submit.disabled = true;
    const before = token.get();
    token.set(value);
    try {
      this.#done(await session());
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      token.set(before);
      this.#complain(error.status === 401 ? "This token is not valid" : error.message);
      this.#field.select();
    } finally {
      this.#submit.disabled = false;
    }
  }

  #complain(text) {
    setText(this.#error, text);
    this.#error.hidden = false;
    this.#field.setAttribute("aria-invalid", "true");
  }
}
