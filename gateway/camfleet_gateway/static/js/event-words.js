/** What events are called, for people. Their data is of any shape: nothing here relies on it. */

import { duration } from "./words.js";

const TITLES = {
  "camera.offline": "Offline",
  "camera.online": "Online",
  "camera.stale": "No picture",
  "camera.recovered": "Pictures again",
  "source.connected": "Source connected",
  "source.lost": "Source lost",
  "source.ended": "Source ended",
  "source.frozen": "Picture frozen",
  "source.unfrozen": "Picture moves again",
  "source.auth_failed": "Login refused",
  "detection.started": "Detection",
  "detection.ended": "Detection ended",
  alert: "Alert",
  "alert.ended": "Alert ended",
};

const RULES = {
  InZone: "Something in a zone",
  BlockedPerson: "Blocked person",
  UnknownPerson: "Unknown person",
  CameraOffline: "Camera offline",
  CountAbove: "Too many at once",
};

const IN_VIEW_SECONDS = 300; // of a worker that died without saying so

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** CamelCase of the API as words. */
const words = (text) => capital(text.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase());

export const ruleWords = (when) => RULES[when] ?? (when ? words(String(when)) : "Alert");

export const isAppearance = ({ type }) => type === "appearance";

/** Whether a face is what appeared. */
export const isFace = (event) => isAppearance(event) && event.data?.kind === "face";

/** Who it is, `{id, name, …}`, or null. */
export function personOf(event) {
  const told = event.data?.person; // by the worker, with what it is based on
  const { person = told } = event;
  if (typeof person?.id !== "string" || !person.id) return null;
  return told?.id === person.id ? { ...told, ...person, name: person.name || told.name } : person;
}

export const identityOf = (event) => event.identity || event.data?.identity || "none";

/** The headline. */
export function eventTitle(event) {
  const message = event.message ?? "";
  if (isAppearance(event)) return appearanceTitle(event);
  if (event.type === "alert") return message ? trim(message) : ruleWords(event.data?.when);
  if (event.type.startsWith("detection.") && message) return trim(message); // “Face in view” says it all
  return TITLES[event.type] ?? capital(event.type.replaceAll(/[._]/g, " "));
}

function appearanceTitle(event) {
  const person = personOf(event);
  if (person) return person.name || "Somebody known";
  const identity = identityOf(event);
  if (identity === "unknown") return "Unknown face";
  if (identity === "unsure") return "Face, not sure whose";
  return capital(String(event.label || event.data?.label || "Something"));
}

/** What else is to say in a line; may be empty. */
export function eventText(event) {
  if (isAppearance(event)) return [stay(event), zoneWords(event)].filter(Boolean).join(" · ");
  const message = event.message ?? "";
  const title = eventTitle(event);
  return trim(message).toLowerCase() === trim(title).toLowerCase() ? "" : capital(message);
}

const trim = (message) => capital(message.replace(/\.$/, ""));

/** How long it was there; while it is, until now. */
export function stay(event, now = Date.now() / 1000) {
  const { started, seen, ended } = event.data ?? {};
  const until = isInView(event, now) ? now : (event.ended ?? ended ?? seen);
  if (!Number.isFinite(started) || !Number.isFinite(until) || until - started < 0.5) return "";
  return duration(until - started);
}

/** The zones that it was in, each with a name. */
export function zonesOf(event) {
  const zones = event.data?.zones;
  return Array.isArray(zones) ? zones.filter((zone) => typeof zone?.name === "string") : [];
}

export function zoneWords(event) {
  return zonesOf(event)
    .map(({ name }) => name)
    .join(", ");
}

/** It has not ended, and was seen just now. */
export function isInView(event, now = Date.now() / 1000) {
  if (!isAppearance(event) || event.ended || event.data?.ended) return false;
  return now - (event.data?.seen ?? event.time) < IN_VIEW_SECONDS;
}

/** `known`, `unknown`, `unsure` or empty: what colours a card. */
export function standing(event) {
  if (personOf(event)?.group === "blocked") return "blocked";
  const identity = identityOf(event);
  return isAppearance(event) && identity !== "none" ? identity : "";
}

/** Path of the picture that stands for it; an alert has that of what raised it. */
export function pictureOf(event) {
  if (event.crop_url ?? event.scene_url) return event.crop_url ?? event.scene_url;
  const cause = event.type === "alert" ? event.data?.event_id : null;
  return cause ? `/api/events/${encodeURIComponent(cause)}/crop.jpg` : null;
}

/** A symbol where there is no picture. */
export function eventSymbol(event) {
  if (isFace(event)) return "person";
  if (isAppearance(event)) return event.label === "person" || event.data?.label === "person" ? "person" : "object";
  if (event.type === "alert") return "bell";
  if (event.type.startsWith("detection.")) return "eye";
  return event.severity === "info" || !event.severity ? "camera" : "alert";
}

export const percent = (share) => `${Math.round(share * 100)} %`;
