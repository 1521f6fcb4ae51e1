/** What is said about enrolled people, and about the pictures that were refused. */

import { h } from "./dom.js";

export const GROUPS = ["staff", "visitor", "blocked"];

const REFUSED = {
  NoFace: ["No face found", "Use a picture in which the face is seen from the front, well lit."],
  SeveralFaces: ["Several faces", "Cut the picture so that only this person is on it."],
  TooSmall: ["Face too small", "Use a picture taken closer, or of a higher resolution."],
  Blurred: ["Face not sharp", "Use a sharper picture."],
  TurnedAway: ["Face turned away", "Use a picture from the front."],
  Duplicate: ["Nothing new", "This person already has this picture, or one that is nearly the same."],
  LooksLikeSomebodyElse: ["Looks like somebody else", "Make sure that it is the right person."],
  NotAPicture: ["Not a picture", "JPEG, PNG and WebP can be read."],
  TooLarge: ["Too large", "A picture may have 20 MB and 50 megapixels."],
  too_large: ["Too large", "A picture may have 20 MB and 50 megapixels."],
};

/** Codes that the sender may overrule. */
export const MAY_FORCE = new Set(["Duplicate", "LooksLikeSomebodyElse"]);

/** Why a picture was not taken: a few words, and a sentence with what to do. */
export function refusal({ code, message, problems = [] }) {
  const [title, advice] = REFUSED[code] ?? ["Not added", ""];
  const words = problems.length && !REFUSED[code] ? problems.join("; ") : (message ?? "");
  const human = words.replace(/;[^;]*force=1.*$/, ""); // there is a button for that
  const said = human && `${human.charAt(0).toUpperCase()}${human.slice(1)}`;
  return { title, text: (said || advice).replace(/([^.!?])$/, "$1.") };
}

export const pictures = (count) => (count === 1 ? "1 picture" : `${count ?? 0} pictures`);

const date = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
const day = (unixSeconds) => date.format(new Date(unixSeconds * 1000));

/** When somebody is valid, in words; empty if always. */
export function validity({ valid_from: from, valid_until: until }, now = Date.now() / 1000) {
  if (until && until < now) return `not valid since ${day(until)}`;
  if (from && from > now) return `valid from ${day(from)}`;
  return until ? `valid until ${day(until)}` : "";
}

/** Group, pictures and validity in a line. */
export function personSummary(person) {
  return [person.group, pictures(person.faces), validity(person)].filter(Boolean).join(" · ");
}

/** Names of groups, the usual ones first. */
export function sortedGroups(names) {
  const rank = (name) => (GROUPS.includes(name) ? GROUPS.indexOf(name) : GROUPS.length);
  return [...names].sort((one, other) => rank(one) - rank(other) || one.localeCompare(other));
}

/** A field for the group: one of the usual, or an own one. */
export function groupField(id, value = "staff") {
  const options = h("datalist", { id: `${id}-list` }, ...GROUPS.map((group) => h("option", { value: group })));
  const input = h("input", {
    class: "field",
    id,
    value,
    list: options.id,
    maxlength: 63,
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "false",
    "aria-describedby": `${id}-hint`,
  });
  const hint = h("span", { class: "hint", id: `${id}-hint` }, "staff, visitor, blocked, or a name of your own. Rules can alert on blocked people.");
  return {
    element: h("div", { class: "form-field" }, h("label", { for: id }, "Group"), input, options, hint),
    value: () => input.value.trim(),
    input,
  };
}
