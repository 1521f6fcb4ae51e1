/** Small helpers around the DOM. Text is only ever set as text: nothing from outside becomes markup. */

/**
 * Make an element.
 *
 * @param {string} tag
 * @param {Object} [properties] `class`, `on…` handlers, `data` (dataset), booleans, anything else an attribute
 * @param {...(Node|string|null|false)} children
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") element.className = value;
    else if (key === "data") Object.assign(element.dataset, value);
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";
const PATHS = {
  plus: "M12 5v14M5 12h14",
  bell: "M6 9a6 6 0 0 1 12 0c0 5 2 6.5 2 6.5H4S6 14 6 9M10 19a2.2 2.2 0 0 0 4 0",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8M12 3v1.5M12 19.5V21M3 12h1.5M19.5 12H21M5.6 5.6l1.1 1.1M17.3 17.3l1.1 1.1M5.6 18.4l1.1-1.1M17.3 6.7l1.1-1.1",
  moon: "M20 14.5A8.2 8.2 0 0 1 9.5 4a8.2 8.2 0 1 0 10.5 10.5",
  help: "M9.2 9.2a2.9 2.9 0 1 1 4.3 2.5c-.9.5-1.5 1.1-1.5 2.1M12 17.2v.1M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18",
  search: "M10.8 17.6a6.8 6.8 0 1 0 0-13.6 6.8 6.8 0 0 0 0 13.6M15.8 15.8 20 20",
  boxes: "M4 8V5a1 1 0 0 1 1-1h3M16 4h3a1 1 0 0 1 1 1v3M20 16v3a1 1 0 0 1-1 1h-3M8 20H5a1 1 0 0 1-1-1v-3M9 9h6v6H9z",
  back: "M15 5l-7 7 7 7",
  close: "M6 6l12 12M18 6L6 18",
  pause: "M9 5v14M15 5v14",
  play: "M8 5.5v13l10.5-6.5z",
  camera: "M4 8.5A1.5 1.5 0 0 1 5.5 7H8l1.4-2h5.2L16 7h2.5A1.5 1.5 0 0 1 20 8.5v8a1.5 1.5 0 0 1-1.5 1.5h-13A1.5 1.5 0 0 1 4 16.5zM12 15.5a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4",
  expand: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  trash: "M5 7h14M10 7V5h4v2M7 7l.8 12h8.4L17 7M10.5 11v5M13.5 11v5",
  off: "M4 4l16 16M9.5 7H15a1.5 1.5 0 0 1 1.5 1.5v3L20 9v7.5M16.5 16.5A1.5 1.5 0 0 1 15 17H5.5A1.5 1.5 0 0 1 4 15.5v-7A1.5 1.5 0 0 1 5.5 7H7",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18M12 7.5V12l3 2",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12M12 14.8a2.8 2.8 0 1 0 0-5.6 2.8 2.8 0 0 0 0 5.6",
  exit: "M14 4h4.5A1.5 1.5 0 0 1 20 5.5v13a1.5 1.5 0 0 1-1.5 1.5H14M10 8l-4 4 4 4M6 12h9",
  grid: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  events: "M4 6h2M4 12h2M4 18h2M9.5 6H20M9.5 12H20M9.5 18H20",
  activity: "M3 12h4l3-7.5 4.5 15L17.5 12H21",
  people: "M9 11.2a3.3 3.3 0 1 0 0-6.6 3.3 3.3 0 0 0 0 6.6M2.8 19a6.2 6.2 0 0 1 12.4 0M15.8 5a3.2 3.2 0 0 1 0 6M17.2 13.4A6.2 6.2 0 0 1 21.2 19",
  person: "M12 11.5a3.7 3.7 0 1 0 0-7.4 3.7 3.7 0 0 0 0 7.4M4.8 20a7.2 7.2 0 0 1 14.4 0",
  image: "M4 6.5A1.5 1.5 0 0 1 5.5 5h13A1.5 1.5 0 0 1 20 6.5v11a1.5 1.5 0 0 1-1.5 1.5h-13A1.5 1.5 0 0 1 4 17.5zM4.5 16l4.3-4.3 3.6 3.6 2.4-2.4 4.7 4.7M15.5 9.6v.1",
  alert: "M12 4.5 21 19.5H3zM12 10v4.2M12 16.9v.1",
  upload: "M12 15V4.5M7.5 8.8 12 4.3l4.5 4.5M4.5 15.5v3A1.5 1.5 0 0 0 6 20h12a1.5 1.5 0 0 0 1.5-1.5v-3",
  download: "M12 4.5V15M7.5 10.7 12 15.2l4.5-4.5M4.5 15.5v3A1.5 1.5 0 0 0 6 20h12a1.5 1.5 0 0 0 1.5-1.5v-3",
  check: "M5 12.5l4.5 4.5L19 7.5",
  filter: "M4 6h16M7 12h10M10 18h4",
  next: "M9 5l7 7-7 7",
  up: "M12 19V5.5M6.5 11 12 5.3l5.5 5.7",
  object: "M12 3.5 20 8v8l-8 4.5L4 16V8zM4.3 8.2 12 12.5l7.7-4.3M12 12.5v7.8",
  shield: "M12 3.5 19 6v5.5c0 4.3-2.9 7.6-7 9-4.1-1.4-7-4.7-7-9V6z",
  link: "M3 3l18 18M8.5 8.6a12 12 0 0 0-4 2.6M12 7.5c3 0 5.7 1.3 7.7 3.5M8 14.5a6 6 0 0 1 6-1.5M12 18.5v.1",
};

/** A line icon; decoration only, so hidden from assistive technology. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon and a name; the name is shown if `text` is set, and is a tooltip otherwise. */
export function button(name, label, { text = false, ...properties } = {}) {
  const shown = text ? h("span", {}, text === true ? label : text) : null;
  return h(
    "button",
    { type: "button", "aria-label": label, title: text === true ? null : label, ...properties },
    icon(name),
    shown,
  );
}

/** Set text only when it differs, so that a screen reader and the layout are left alone. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Say something to assistive technology. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

/**
 * A short message at the bottom of the page.
 *
 * @param {string | Node[]} content
 */
export function toast(content, kind = "info") {
  const item = h("div", { class: "toast", data: { kind } }, ...[content].flat());
  document.getElementById("toasts").append(item);
  setTimeout(() => item.remove(), kind === "info" ? 4000 : 8000);
}
