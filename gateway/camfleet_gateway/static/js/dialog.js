/** Dialogs are native <dialog>s: focus is kept in them, Esc closes. */

import { ApiError } from "./api.js";
import { button, h, setText } from "./dom.js";

/**
 * Open a dialog and drop it when it is closed.
 *
 * @param {string} title
 * @param {string} className also makes the heading's id
 * @param {...Node} content
 */
export function showDialog(title, className, ...content) {
  const heading = h("h2", { id: `dialog-${className.split(" ")[0]}` }, title);
  const dialog = h(
    "dialog",
    { class: `dialog ${className}`, "aria-labelledby": heading.id },
    h(
      "div",
      { class: "dialog-head" },
      heading,
      button("close", "Close", { class: "icon-button", onclick: () => dialog.close() }),
    ),
    ...content,
  );
  dialog.addEventListener("close", () => dialog.remove());
  // A press that begins and ends on the backdrop closes; one that selects text and slips off does not.
  let pressed = null;
  dialog.addEventListener("pointerdown", (event) => {
    pressed = event.target;
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog && pressed === dialog) dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Close whatever stands over the page. */
export function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
}

/**
 * Ask before something that cannot be undone, and do it.
 *
 * @param {{title: string, name: string, text: (string|Node)[], verb: string, typed?: string, act: () => Promise<void>}} what
 *   with `typed`, this text must be typed in before the button works
 */
export function confirmThen({ title, name, text, verb, typed = "", act }) {
  const problem = h("p", { class: "form-error", role: "alert", hidden: true });
  const go = h("button", { type: "submit", class: "button danger solid", disabled: typed !== "" }, verb);
  const field = h("input", {
    class: "field",
    id: `confirm-${name}`,
    autocomplete: "off",
    spellcheck: "false",
    oninput: () => {
      go.disabled = field.value.trim() !== typed.trim();
    },
  });
  const form = h(
    "form",
    {
      class: "form",
      novalidate: true,
      onsubmit: async (event) => {
        event.preventDefault();
        if (go.disabled) return;
        go.disabled = true;
        problem.hidden = true;
        try {
          await act();
          dialog.close();
        } catch (error) {
          if (!(error instanceof ApiError)) throw error;
          setText(problem, error.message);
          problem.hidden = false;
          go.disabled = false;
        }
      },
    },
    problem,
    ...text.map((part) => (typeof part === "string" ? h("p", {}, part) : part)),
    typed
      ? h("div", { class: "form-field" }, h("label", { for: field.id }, "Type ", h("strong", {}, typed), " to go on"), field)
      : null,
    h(
      "div",
      { class: "dialog-actions" },
      h("button", { type: "button", class: "button", autofocus: !typed, onclick: () => dialog.close() }, "Keep"),
      go,
    ),
  );
  const dialog = showDialog(title, name, form);
  if (typed) field.focus();
  return dialog;
}
